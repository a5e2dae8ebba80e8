// What went wrong, in a sentence, and what to do about it.

import { foreign, h } from "./dom.js";
import { duration, plural } from "./text.js";

// [what happened, what to do, tone]; the server's own detail stands between them.
export function sentences(problem) {
  switch (problem.kind) {
    case "network":
      return ["The server did not answer.", "Is the application running, and is this computer still connected to it? The console tries again by itself.", "bad"];
    case "timeout":
      return ["The server took too long to answer.", "It may be busy with a large plan. Try again; the log of the application says more.", "warn"];
    case "no-key":
      return ["The server has no admin key, so nothing is open.", "Set S3GC_ADMIN_API_KEY to a long random text in the environment of the application and start it again.", "bad"];
    case "unauthenticated":
      return ["The server asks for a token.", "Give the value of S3GC_ADMIN_API_KEY.", "info"];
    case "forbidden":
      return ["The server does not know this token.", "It is the value of S3GC_ADMIN_API_KEY in the environment of the application; after a change the application has to be started again.", "bad"];
    case "too-many":
      return ["The server asks to slow down.", problem.retryAfter ? `Wait ${duration(problem.retryAfter)}, then try again.` : "Wait a few minutes, then try again.", "warn"];
    case "busy":
      return ["Something else is running.", "Wait until it has ended; the overview shows it.", "warn"];
    case "refused":
      return ["It was refused.", "", "warn"];
    case "no-such-key":
      return ["The store cannot have such a key.", "Write it exactly as it is in the bucket, without the bucket's name.", "warn"];
    case "restore":
      return ["The restore could not be done.", "", "bad"];
    case "damaged":
      return ["The vault is damaged.", "Nothing more is deleted while it is; the log of the application has the particulars.", "bad"];
    case "failed":
      return ["It failed.", "The log of the application has the particulars.", "bad"];
    case "not-found":
      return ["There is no such thing here.", "An operation may have expired, or belong to another policy.", "warn"];
    case "invalid":
      return ["The server did not accept the request.", "", "bad"];
    case "policy":
      return ["The policy cannot be used.", "Correct it in the application, then start it again.", "bad"];
    case "unavailable":
      return ["The vault, the bucket or a database did not answer.", "Look at the health on the overview; then try again.", "bad"];
    case "stopping":
      return ["The application is shutting down.", "The console connects again when it is back.", "warn"];
    default:
      return byStatus(problem);
  }
}

// Without a type it was not the plugin that answered (a proxy, the framework): the status must do.
function byStatus(problem) {
  switch (problem.status) {
    case 401:
      return ["The server asks for a token.", "Give the value of S3GC_ADMIN_API_KEY.", "info"];
    case 403:
      return ["The server refused this request.", "If the token is right, look at what stands between this computer and the application.", "bad"];
    case 404:
      return ["The server does not know this address.", "Is the plugin still mounted under this prefix?", "bad"];
    case 429:
      return ["The server asks to slow down.", problem.retryAfter ? `Wait ${duration(problem.retryAfter)}, then try again.` : "Wait a little, then try again.", "warn"];
    case 502:
    case 503:
    case 504:
      return ["The application cannot be reached at the moment.", "The console tries again by itself.", "bad"];
    default:
      return ["Something unexpected went wrong.", "The log of the application has the particulars.", "bad"];
  }
}

export function problemBox(problem, { retry = null, id = "problem" } = {}) {
  const [what, way, tone] = sentences(problem);
  const errors = problem.errors ?? [];
  return h("div", { class: `notice ${tone}`, role: "alert", id, tabindex: "-1" },
    h("p", {}, h("strong", {}, what)),
    problem.detail ? h("p", {}, foreign(problem.detail, { kind: "said" })) : null,
    errors.length ? h("ul", { class: "plain" }, errors.slice(0, 20).map((each) => h("li", {}, foreign(each, { kind: "said" })))) : null,
    errors.length > 20 ? h("p", { class: "muted" }, `and ${plural(errors.length - 20, "more", "more")}`) : null,
    way ? h("p", {}, way) : null,
    retry ? h("p", {}, h("button", { type: "button", onclick: retry }, "Try again")) : null);
}
