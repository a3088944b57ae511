/** The deployment's HTTP interface. The key lives in this object, and nowhere else. */

import { paths } from "./paths.js";
import { readEvents } from "./events.js";

/** What the deployment answered instead of what was asked for: a problem (RFC 9457). */
export class Refusal extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || problem.error || `HTTP status ${status}`);
    this.status = status;
    /** The envelope of a run that was started and failed. */
    this.envelope = problem.success === false ? problem : null;
    /** @type {{loc: (string | number)[], msg: string}[]} */
    this.errors = Array.isArray(problem.errors) ? problem.errors : [];
  }
}

const LONGEST_PAUSE = 10_000; // milliseconds between attempts to follow a job again

export class Api {
  #key = "";
  #asked = null;

  /** @param {(again: boolean) => Promise<string>} askForKey rejects when nobody wants to give one */
  constructor(askForKey) {
    this.askForKey = askForKey;
  }

  /** The names of what is served: `invoke`, `jobs`, `runs` ... */
  has(name) {
    return name in paths;
  }

  /** Where `name` is, as an absolute URL, with further segments. */
  url(name, ...segments) {
    // Relative to this module, which is one folder below the deployment's root, under whatever prefix that is.
    const tail = segments.map((segment) => `/${encodeURIComponent(segment)}`).join("");
    return new URL(`../${paths[name]}${tail}`, import.meta.url).href;
  }

  /** Ask for a key once, however many requests need one; `used` is the key that was refused. */
  #newKey(used) {
    if (used !== this.#key) return Promise.resolve(); // another request has got one meanwhile
    this.#asked ??= this.askForKey(used !== "").then((key) => { this.#key = key; }).finally(() => { this.#asked = null; });
    return this.#asked;
  }

  get hasKey() {
    return this.#key !== "";
  }

  /** Send a request, again with a key where one is needed; raises Refusal for what is not a success. */
  async send(url, { method = "GET", body, headers = {}, signal } = {}) {
    for (;;) {
      const used = this.#key;
      const sent = { accept: "application/json", ...headers };
      if (used) sent.authorization = `Bearer ${used}`;
      if (body !== undefined) sent["content-type"] = "application/json";
      const answer = await fetch(url, { method, body, headers: sent, signal, cache: "no-store", credentials: "same-origin" });
      if (answer.status === 401 && /bearer/i.test(answer.headers.get("www-authenticate") ?? "")) {
        await this.#newKey(used);
        continue;
      }
      if (answer.ok) return answer;
      throw new Refusal(answer.status, await answer.json().catch(() => ({})));
    }
  }

  async read(url, options) {
    return (await this.send(url, options)).json();
  }

  /** Run the pipeline and wait; the envelope, of a failed run too. */
  async invoke(body, signal) {
    try {
      return await this.read(this.url("invoke"), { method: "POST", body, signal });
    } catch (error) {
      if (error instanceof Refusal && error.envelope) return error.envelope;
      throw error;
    }
  }

  /** Run the pipeline as a job; its id. */
  async submit(body) {
    const accepted = await this.read(`${this.url("invoke")}?mode=async`, { method: "POST", body });
    return accepted.job_id;
  }

  /** Run the pipeline and yield its events. */
  async *stream(body, signal) {
    const headers = { accept: "text/event-stream" };
    const answer = await this.send(`${this.url("invoke")}?mode=stream`, { method: "POST", body, headers, signal });
    yield* this.#events(answer, signal);
  }

  /** Yield the events of a job from its first one, whatever happens to connections. */
  async *follow(jobId, signal) {
    yield* this.#events(null, signal, jobId);
  }

  async *#events(answer, signal, jobId = null) {
    let last = 0;
    for (let pause = 250; ; pause = Math.min(pause * 2, LONGEST_PAUSE)) {
      try {
        answer ??= await this.#resume(jobId, last, signal);
        if (answer.status === 204) return;
        for await (const event of readEvents(answer.body)) {
          jobId = event.job_id;
          last = event.id;
          pause = 250;
          yield event;
          if (isLast(event)) return;
        }
      } catch (error) {
        const lost = error instanceof TypeError; // what fetch and its streams raise when the connection breaks
        const busy = error instanceof Refusal && [429, 503].includes(error.status);
        if (!(lost || busy) || jobId === null || !this.has("stream")) throw error;
      }
      if (jobId === null || !this.has("stream")) throw new Error("The stream ended before the run did.");
      answer = null;
      await rest(pause, signal);
    }
  }

  #resume(jobId, last, signal) {
    const headers = { accept: "text/event-stream", ...(last ? { "last-event-id": String(last) } : {}) };
    return this.send(this.url("stream", jobId), { headers, signal });
  }

  cancel(jobId) {
    return this.read(`${this.url("jobs", jobId)}/cancel`, { method: "POST" });
  }

  /** The newest of `jobs` or `runs`. */
  newest(name, limit) {
    return this.read(`${this.url(name)}?limit=${limit}`);
  }
}

export function isLast(event) {
  return ["pipeline_completed", "pipeline_failed", "pipeline_canceled"].includes(event.event_type);
}

function rest(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) reject(signal.reason);
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
  });
}
