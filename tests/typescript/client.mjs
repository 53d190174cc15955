// One session of an official TypeScript SDK with the server, told on stdin and printed as JSON:
// {"sdk": 1 | 2, "command": [...] or "url" and "token": "...", "canAsk": true, "calls": [[tool, arguments, reply], ...]}
// A reply is what the user does when asked during that call.
// "$operation" in an argument stands for the operation_id of the last answer that had one.
import { readFileSync } from "node:fs";

const task = JSON.parse(readFileSync(0, "utf8"));
const me = { name: "tests", version: "1" };
const capabilities = task.canAsk ? { elicitation: {} } : {};
let asked = [];
let reply;

async function ask(request) {
  asked.push(request.params.message);
  return reply;
}

async function makeFirst() {
  const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
  const { StdioClientTransport } = await import("@modelcontextprotocol/sdk/client/stdio.js");
  const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
  const { ElicitRequestSchema } = await import("@modelcontextprotocol/sdk/types.js");
  const client = new Client(me, { capabilities });
  if (task.canAsk) client.setRequestHandler(ElicitRequestSchema, ask);
  return { client, StdioClientTransport, StreamableHTTPClientTransport };
}

async function makeSecond() {
  const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
  const { StdioClientTransport } = await import("@modelcontextprotocol/client/stdio");
  const client = new Client(me, { capabilities, versionNegotiation: { mode: "auto" } });
  if (task.canAsk) client.setRequestHandler("elicitation/create", ask);
  return { client, StdioClientTransport, StreamableHTTPClientTransport };
}

const { client, StdioClientTransport, StreamableHTTPClientTransport } =
  task.sdk === 1 ? await makeFirst() : await makeSecond();
const transport = task.url
  ? new StreamableHTTPClientTransport(new URL(task.url), {
      requestInit: { headers: { Authorization: `Bearer ${task.token}` } },
    })
  : new StdioClientTransport({ command: task.command[0], args: task.command.slice(1), env: process.env });
await client.connect(transport);

const { tools } = await client.listTools();
const answers = [];
let operation = "";
for (const [name, given, next] of task.calls) {
  [asked, reply] = [[], next];
  const entries = Object.entries(given).map(([key, value]) => [key, value === "$operation" ? operation : value]);
  const answer = await client.callTool({ name, arguments: Object.fromEntries(entries) });
  operation = answer.structuredContent?.operation_id ?? operation;
  answers.push({ text: answer.content[0].text, isError: answer.isError ?? false, data: answer.structuredContent, asked });
}
await client.close();
console.log(JSON.stringify({ tools: tools.map((tool) => tool.name), answers }));
process.exit(0);
