// A real authorization server at the port that the argument names, for whatever resource its clients name.
// Whoever logs in is who they say; the first token of somebody called "late" is over when it comes.
// A second argument names the key that it signs with. On standard output it tells when it is up.
import { generateKeyPairSync } from "node:crypto";
import { Provider } from "oidc-provider";

const [port, kid = "first"] = process.argv.slice(2);
const key = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ format: "jwk" });
const isLate = new Set(["late"]);
const scope = "backups:read backups:write backups:destroy";

const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks: { keys: [{ ...key, kid, use: "sig", alg: "RS256" }] },
  scopes: ["openid", "offline_access", ...scope.split(" ")],
  clients: [
    {
      client_id: "known",
      redirect_uris: ["http://127.0.0.1:9/callback"],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
    },
    {
      client_id: "without refresh",
      redirect_uris: ["http://127.0.0.1:9/callback"],
      grant_types: ["authorization_code"],
      response_types: ["code"],
    },
    {
      client_id: "machine",
      client_secret: "secret",
      token_endpoint_auth_method: "client_secret_post",
      redirect_uris: [],
      grant_types: ["client_credentials"],
      response_types: [],
    },
  ],
  issueRefreshToken: (_, client) => client.grantTypeAllowed("refresh_token"),
  clientDefaults: { token_endpoint_auth_method: "none" },
  pkce: { required: () => true },
  ttl: { AccessToken: 3600, Session: 3600, Grant: 3600, Interaction: 600 },
  formats: {
    customizers: {
      jwt: (_, token, parts) => {
        if (isLate.delete(token.accountId)) parts.payload.exp = parts.payload.iat - 60;
      },
    },
  },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  features: {
    devInteractions: { enabled: true },
    registration: { enabled: true },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, indicator) => ({
        scope,
        audience: indicator,
        accessTokenFormat: "jwt",
        accessTokenTTL: 3600,
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
});
provider.listen(Number(port), "127.0.0.1", () => console.log("up"));
