// One session of an official TypeScript SDK that logs in, told on stdin and printed as JSON:
// {"sdk": 1 | 2, "url": "...", "login": "her", "client": "known", "refreshes": true, "calls": [[tool, arguments], ...]}
// It has nothing at first but the server's address, and perhaps an id by which the authorization server knows it.
import { readFileSync } from "node:fs";

const task = JSON.parse(readFileSync(0, "utf8"));
const callback = "http://127.0.0.1:9/callback";
const me = { name: "tests", version: "1" };
const sdks = {
  1: async () => ({
    ...(await import("@modelcontextprotocol/sdk/client/index.js")),
    ...(await import("@modelcontextprotocol/sdk/client/streamableHttp.js")),
    ...(await import("@modelcontextprotocol/sdk/client/auth.js")),
    options: {},
  }),
  2: async () => ({
    ...(await import("@modelcontextprotocol/client")),
    options: { versionNegotiation: { mode: "auto" } },
  }),
};
const { Client, StreamableHTTPClientTransport, UnauthorizedError, options } = await sdks[task.sdk]();

// Somebody who logs in, and agrees to what is asked for.
const asked = [];
let ledTo;
async function visit(url) {
  asked.push(url.searchParams.get("scope").split(" ").filter((each) => each.startsWith("backups:")));
  const cookies = new Map();
  let next = url;
  let form;
  for (;;) {
    const headers = { Cookie: [...cookies].map((pair) => pair.join("=")).join("; ") };
    const page = await fetch(next, { method: form ? "POST" : "GET", body: form, headers, redirect: "manual" });
    for (const each of page.headers.getSetCookie()) {
      const [name, value] = each.split(";")[0].split("=");
      cookies.set(name, value);
    }
    const to = page.headers.get("location");
    if (to?.startsWith(callback)) {
      ledTo = new URL(to).searchParams;
      return;
    }
    if (to) {
      [next, form] = [new URL(to, next), undefined];
      continue;
    }
    const html = await page.text();
    const [, action] = /action="([^"]+)"/.exec(html);
    const [, prompt] = /name="prompt" value="(\w+)"/.exec(html);
    [next, form] = [new URL(action, next), new URLSearchParams({ prompt, login: task.login, password: "any" })];
  }
}

const tokens = [];
const grants = ["authorization_code", ...(task.refreshes ? ["refresh_token"] : [])];
let registered = task.client ? { client_id: task.client } : undefined;
let verifier;
const authProvider = {
  redirectUrl: callback,
  clientMetadata: {
    client_name: "tests",
    redirect_uris: [callback],
    grant_types: grants,
    response_types: ["code"],
    token_endpoint_auth_method: "none",
  },
  clientInformation: () => registered,
  saveClientInformation: (information) => { registered = information; },
  tokens: () => tokens.at(-1),
  saveTokens: (saved) => { tokens.push(saved); },
  redirectToAuthorization: visit,
  saveCodeVerifier: (saved) => { verifier = saved; },
  codeVerifier: () => verifier,
};

let client;
let transport;
async function connect() {
  client = new Client(me, options);
  transport = new StreamableHTTPClientTransport(new URL(task.url), { authProvider });
  await client.connect(transport);
}
async function loggedIn(work) {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
    await transport.finishAuth(ledTo.get("code"), ledTo.get("iss"));
    return await work();
  }
}

await loggedIn(connect);
const answers = [];
for (const [name, given] of task.calls) {
  const answer = await loggedIn(() => client.callTool({ name, arguments: given }));
  answers.push({ text: answer.content[0].text, isError: answer.isError ?? false, data: answer.structuredContent });
}
await client.close();
console.log(JSON.stringify({ asked, tokens: tokens.map((each) => each.access_token), answers }));
process.exit(0);
