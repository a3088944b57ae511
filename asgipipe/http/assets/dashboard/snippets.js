/** The request of the form, to be copied into a shell or a program. The key is never in it. */

const MODES = { sync: "", async: "?mode=async", stream: "?mode=stream" };

/** @param {string} url of invoke @param {"sync" | "async" | "stream"} mode @param {string} body JSON @param {boolean} keyed */
export function snippet(language, url, mode, body, keyed) {
  return { curl, python, javascript }[language](`${url}${MODES[mode]}`, body, keyed, mode === "stream");
}

function curl(url, body, keyed, streamed) {
  const parts = [`curl ${streamed ? "-N " : ""}${shell(url)}`];
  if (keyed) parts.push('-H "Authorization: Bearer $KEY"');
  parts.push("-H 'Content-Type: application/json'", `-d ${shell(body)}`);
  return parts.join(" \\\n  ");
}

function shell(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function python(url, body, keyed, streamed) {
  const lines = ["import json", ...(keyed ? ["import os"] : []), "from urllib.request import Request, urlopen", ""];
  lines.push(`body = ${literal(JSON.parse(body), 0)}`, "request = Request(", `    ${JSON.stringify(url)},`);
  lines.push("    data=json.dumps(body).encode(),", "    headers={");
  lines.push('        "Content-Type": "application/json",');
  if (keyed) lines.push('        "Authorization": f"Bearer {os.environ[\'KEY\']}",');
  lines.push("    },", ")", "with urlopen(request) as answer:");
  if (streamed) {
    lines.push("    for line in answer:", '        if line.startswith(b"data:"):', "            print(json.loads(line[5:]))");
  } else lines.push("    print(json.load(answer))");
  return lines.join("\n");
}

/** A value of JSON as Python writes it. */
function literal(value, depth) {
  const [margin, end] = ["    ".repeat(depth + 1), "    ".repeat(depth)];
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map((each) => literal(each, depth)).join(", ")}]`;
  const members = Object.entries(value).map(([name, each]) => `${margin}${JSON.stringify(name)}: ${literal(each, depth + 1)},`);
  return members.length ? `{\n${members.join("\n")}\n${end}}` : "{}";
}

function javascript(url, body, keyed, streamed) {
  const head = ['    "Content-Type": "application/json",', ...(keyed ? ["    Authorization: `Bearer ${key}`,"] : [])];
  const sent = JSON.stringify(JSON.parse(body), null, 2).replaceAll("\n", "\n  ");
  const lines = [
    `const answer = await fetch(${JSON.stringify(url)}, {`,
    '  method: "POST",',
    `  headers: {\n${head.join("\n")}\n  },`,
    `  body: JSON.stringify(${sent}),`,
    "});",
  ];
  if (streamed) {
    lines.push("for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {", "  console.log(text);", "}");
  } else lines.push("console.log(await answer.json());");
  return lines.join("\n");
}
