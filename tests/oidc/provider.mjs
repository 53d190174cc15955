// A real authorization server at the port that the argument names, for whatever resource its clients name.
// Whoever logs in is who they say; on standard output it tells when it is up.
import { Provider } from "oidc-provider";

const [port] = process.argv.slice(2);
const scope = "backups:read backups:write backups:destroy";

const provider = new Provider(`http://127.0.0.1:${port}`, {
  scopes: ["openid", "offline_access", ...scope.split(" ")],
  clients: [
    {
      client_id: "known",
      redirect_uris: ["http://127.0.0.1:9/callback"],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
    },
  ],
  clientDefaults: { token_endpoint_auth_method: "none" },
  pkce: { required: () => true },
  ttl: { AccessToken: 3600, Session: 3600, Grant: 3600, Interaction: 600 },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  features: {
    devInteractions: { enabled: true },
    registration: { enabled: true },
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
