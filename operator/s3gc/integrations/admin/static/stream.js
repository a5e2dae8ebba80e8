// The live state: one stream of events a tab, opened anew when it breaks, closed while nobody looks.

import { events, get } from "./api.js";

const FIRST_WAIT = 1000;
const LONGEST_WAIT = 30_000;
// The same problem would come back each time: a person has to do something first.
const FINAL = new Set([401, 403]);

export class Live extends EventTarget {
  status = null; // GCStatus
  counts = {}; // the largest number seen of each kind in the operation that runs now
  state = "off"; // off, connecting, on, waiting, failed
  problem = null;
  #heard = { statuses: 0, steps: 0 };
  #abort = null;
  #wake = null;

  start() {
    if (this.#abort) return;
    this.#abort = new AbortController();
    this.#run(this.#abort.signal);
  }

  stop() {
    this.#abort?.abort();
    this.#abort = null;
    this.#wake?.();
    this.#set("off");
  }

  // After something was done here: the stream says it too, but a person should not wait for that. An answer may be older
  // than what the stream has said since it was asked for; it must not bring back a cycle that has ended.
  async refresh() {
    for (;;) {
      const { statuses, steps } = this.#heard;
      const status = await get("status");
      if (this.state === "on" && this.#heard.statuses !== statuses) continue;
      const fresher = this.state === "on" && this.#heard.steps !== steps ? { running: this.status.running, last_ended: this.status.last_ended } : {};
      this.#take("status", { ...status, ...fresher });
      return;
    }
  }

  retryNow() {
    this.#wake?.();
  }

  async #run(signal) {
    let wait = FIRST_WAIT;
    while (!signal.aborted) {
      this.#set(this.state === "waiting" ? "waiting" : "connecting", this.problem);
      try {
        for await (const [name, data] of events(signal)) {
          wait = FIRST_WAIT;
          if (signal.aborted) return;
          this.#set("on");
          this.#heard[name === "status" ? "statuses" : "steps"] += 1;
          this.#take(name, data);
        }
        if (!signal.aborted) this.#set("waiting");
      } catch (problem) {
        if (signal.aborted) return;
        if (FINAL.has(problem.status) || problem.kind === "no-key") {
          this.#abort = null;
          this.#set("failed", problem);
          return;
        }
        this.#set("waiting", problem.status === undefined ? null : problem);
        wait = Math.max(wait, 1000 * (problem.retryAfter ?? 0));
      }
      await new Promise((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, wait);
      });
      wait = Math.min(LONGEST_WAIT, wait * 2);
    }
  }

  #set(state, problem = null) {
    if (state === this.state && problem === this.problem) return;
    this.state = state;
    this.problem = problem;
    this.dispatchEvent(new Event("state"));
  }

  #take(name, data) {
    if (name === "status") this.status = data;
    else if (name === "progress" && this.status) this.status = { ...this.status, running: data.running };
    else if (name === "ended" && this.status) this.status = { ...this.status, last_ended: data, running: null };
    else return;
    this.#tally(this.status.running);
    this.dispatchEvent(new CustomEvent(name, { detail: data }));
  }

  // Each phase tells only its own count, so the earlier ones' are remembered while the operation lasts.
  #tally(running) {
    if (!running) {
      this.counts = {};
      return;
    }
    const mine = `${running.kind} ${running.started_at}`;
    if (this.counts.of !== mine) this.counts = { of: mine };
    for (const name of ["listed", "references", "candidates", "backed_up", "deleted", "restored"]) {
      this.counts[name] = Math.max(this.counts[name] ?? 0, running.progress[name] ?? 0);
    }
  }
}
