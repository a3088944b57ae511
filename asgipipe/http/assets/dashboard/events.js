/** Server-Sent Events from a fetch, which unlike EventSource can send the key in a header. */

const LONGEST = 32 * 1024 * 1024; // characters of one event; more is no event of ours

/**
 * @param {ReadableStream<Uint8Array>} body
 * @yields {{id: number, event_type: string, job_id: string, timestamp: string, step_name: string | null, data: any}}
 */
export async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let data = [];
  let size = 0;
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop() ?? "";
      size += value.length;
      if (size > LONGEST) throw new Error("An event is too large to be shown.");
      for (const line of lines) {
        if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
        else if (line === "") {
          if (data.length) yield JSON.parse(data.join("\n"));
          data = [];
          size = 0;
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
