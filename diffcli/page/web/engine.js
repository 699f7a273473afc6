// @ts-check
/** The page's side of the worker. */

/** @typedef {Partial<import("./worker.js").Job> & {kind: import("./worker.js").Job["kind"], channel: string}} Wanted */

export class Engine {
  /**
   * @param {Worker} worker
   * @param {(message: string) => void} onFailure
   */
  constructor(worker, onFailure) {
    this.worker = worker;
    /** @type {Map<number, {answer: (answer: any) => void, done: () => void}>} */
    this.pending = new Map();
    /** @type {Map<string, number>} */
    this.latest = new Map();
    this.count = 0;
    worker.onmessage = ({ data }) => this.#receive(data);
    worker.onerror = (event) => onFailure(event.message);
  }

  /**
   * Ask for something; a new job of a channel ends the one before, whose answers stop.
   *
   * @param {Wanted} job
   * @param {(answer: any) => void} answer called for each answer
   * @param {() => void} [done] called after the last one
   */
  ask(job, answer, done = () => {}) {
    const number = this.count++;
    this.pending.delete(this.latest.get(job.channel) ?? -1);
    this.latest.set(job.channel, number);
    this.pending.set(number, { answer, done });
    this.worker.postMessage({ ...job, number });
  }

  /** End the job of a channel. @param {string} channel */
  cancel(channel) {
    this.ask({ kind: "cancel", channel }, () => {});
  }

  /** @param {{number: number, answer: unknown, done: boolean}} message */
  #receive({ number, answer, done }) {
    const asked = this.pending.get(number);
    if (!asked) return;
    if (done) {
      this.pending.delete(number);
      asked.done();
    } else {
      asked.answer(answer);
    }
  }
}
