// The page *Brayns* in Airflow's UI. Plain modern JavaScript: React and the router are the host's own, as globals, so
// there is no build, and nothing is loaded from elsewhere. Everything shown goes through React, which escapes it.
const { createElement: h, useCallback, useEffect, useMemo, useRef, useState } = React;
const { Link } = ReactRouterDOM;

const EVERY = 5000; // milliseconds from one look to the next, while the page is seen
const SLOWEST = 60000;
const WARN = 600; // seconds before the end from which on a session is warned of
const url = (path) => new URL(path, document.baseURI);

const STYLE = `
.brayns { height: 100%; overflow: auto; color: var(--chakra-colors-fg, inherit); font-size: 14px; line-height: 1.45;
  --line: var(--chakra-colors-border-emphasized, #8888); --soft: var(--chakra-colors-bg-subtle, #8881); --dim: var(--chakra-colors-fg-muted, #777);
  --good: #1a7f45; --busy: #1d63c4; --warn: #a15c00; --bad: #c0281f; --on: #fff; }
.dark .brayns { --good: #56c98a; --busy: #79b0ff; --warn: #f0b35a; --bad: #ff8a80; --on: #101418; }
.brayns * { box-sizing: border-box; }
.brayns > div { max-width: 1200px; margin: 0 auto; padding: 12px; }
.brayns h1 { font-size: 22px; font-weight: 600; margin: 0; } .brayns h2 { font-size: 17px; font-weight: 600; margin: 22px 0 8px; }
.brayns header, .brayns .line { display: flex; flex-wrap: wrap; gap: 6px 14px; align-items: center; }
.brayns header { justify-content: space-between; margin-bottom: 10px; } .brayns .grow { flex: 1 1 auto; min-width: 0; }
.brayns .card { border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px; margin: 0 0 10px; background: var(--chakra-colors-bg, transparent); }
.brayns .note { border-left: 4px solid var(--busy); background: var(--soft); padding: 8px 12px; margin: 8px 0; border-radius: 4px; }
.brayns .note.bad { border-color: var(--bad); } .brayns .note.warn { border-color: var(--warn); }
.brayns .state { font-weight: 600; white-space: nowrap; } .brayns .state::before { content: "●"; margin-right: 6px; }
.brayns .good { color: var(--good); } .brayns .busy { color: var(--busy); } .brayns .warn { color: var(--warn); }
.brayns .bad { color: var(--bad); } .brayns .note, .brayns .dim { color: inherit; } .brayns .dim { color: var(--dim); }
.brayns dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 2px 14px; margin: 8px 0 0; }
.brayns dt { color: var(--dim); } .brayns dd { margin: 0; overflow-wrap: anywhere; }
.brayns code, .brayns pre { font-family: ui-monospace, monospace; font-size: 13px; }
.brayns pre { background: var(--soft); padding: 8px 10px; border-radius: 6px; overflow-x: auto; margin: 4px 0; white-space: pre; }
.brayns .endpoint { font-size: 15px; font-weight: 600; overflow-wrap: anywhere; }
.brayns button { font: inherit; border: 1px solid var(--line); border-radius: 6px; padding: 4px 12px; background: var(--soft); color: inherit; cursor: pointer; }
.brayns button.main { background: var(--busy); border-color: var(--busy); color: var(--on); font-weight: 600; }
.brayns button.end { color: var(--bad); } .brayns button:disabled { opacity: .55; cursor: not-allowed; }
.brayns :is(button, input, select, textarea, summary, a):focus-visible { outline: 2px solid var(--busy); outline-offset: 2px; }
.brayns a { color: var(--busy); text-decoration: underline; overflow-wrap: anywhere; } .brayns summary { cursor: pointer; padding: 4px 0; }
.brayns form { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); gap: 12px 18px; }
.brayns form > .wide { grid-column: 1 / -1; } .brayns fieldset { border: 1px solid var(--line); border-radius: 6px; padding: 6px 10px; margin: 0; min-width: 0; }
.brayns label { display: block; font-weight: 600; } .brayns fieldset label { font-weight: 400; overflow-wrap: anywhere; }
.brayns legend { font-weight: 600; padding: 0 4px; } .brayns .help { font-weight: 400; color: var(--dim); font-size: 13px; }
.brayns :is(input[type=text], input[type=number], select) { width: 100%; font: inherit; color: inherit; background: var(--chakra-colors-bg, transparent);
  border: 1px solid var(--dim); border-radius: 6px; padding: 5px 8px; } .dark .brayns { color-scheme: dark; }
.brayns input[aria-invalid=true] { border-color: var(--bad); } .brayns progress { width: 100%; height: 10px; appearance: none; border: 0; border-radius: 5px; overflow: hidden; background: var(--line); }
.brayns progress::-webkit-progress-bar { background: var(--line); } .brayns progress::-webkit-progress-value { background: var(--busy); }
.brayns progress::-moz-progress-bar { background: var(--busy); }
.brayns figure { margin: 8px 0 0; } .brayns :is(img, video) { display: block; max-width: 100%; max-height: 70vh; border-radius: 6px; background: #000; }
.brayns dialog { color: inherit; background: var(--chakra-colors-bg, Canvas); border: 1px solid var(--line); border-radius: 10px; padding: 18px; max-width: min(520px, 92vw); margin: auto; }
.brayns dialog::backdrop { background: #0008; }
.brayns .heard { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }`;

// ---- what the server tells -------------------------------------------------------------------------------------------
class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

function saidBy(body, status) {
  const detail = body && body.detail;
  if (typeof detail === "string") return detail;
  if (Array.isArray(detail)) return detail.map((one) => one.msg || String(one)).join("; ");
  return `Airflow answered ${status}.`;
}

async function ask(path, method = "GET", body = undefined) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  const told = { method, headers, body: body === undefined ? undefined : JSON.stringify(body), credentials: "same-origin" };
  let answer;
  try {
    answer = await fetch(url(path), told);
  } catch {
    throw new Refused(0, "Airflow's API server does not answer.");
  }
  const isJson = (answer.headers.get("Content-Type") || "").includes("json");
  const value = isJson ? await answer.json().catch(() => null) : null;
  if (!answer.ok) throw new Refused(answer.status, saidBy(value, answer.status));
  if (!isJson) throw new Refused(404, "This API server has no Brayns part.");
  return { value, tag: answer.headers.get("ETag") };
}

const kept = { tag: "", value: null, at: 0 }; // outlives a remount: the host mounts anew with each sub-path

function usePolled() {
  const [shown, setShown] = useState(kept.value);
  const [trouble, setTrouble] = useState(null);
  const timer = useRef(0);
  const look = useCallback(async (failures = 0) => {
    clearTimeout(timer.current);
    if (document.hidden) return;
    let wait = EVERY;
    try {
      const { value, tag } = await ask("brayns/state");
      kept.at = Date.now();
      if (!tag || tag !== kept.tag) {
        Object.assign(kept, { tag, value });
        setShown(value);
      }
      setTrouble(null);
      failures = 0;
    } catch (error) {
      setTrouble(error);
      failures += 1;
      wait = Math.min(EVERY * 2 ** failures, SLOWEST);
    }
    clearTimeout(timer.current);
    if (timer.current !== null) timer.current = setTimeout(() => look(failures), wait);
  }, []);
  useEffect(() => {
    timer.current = 0;
    const seen = () => look();
    document.addEventListener("visibilitychange", seen);
    look();
    return () => {
      document.removeEventListener("visibilitychange", seen);
      clearTimeout(timer.current);
      timer.current = null;
    };
  }, [look]);
  return { shown, trouble, look };
}

// One clock for all that shows a time; a card is not drawn anew because a second has passed.
const clocks = new Set();
let ticking = 0;

function useNow() {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    clocks.add(setNow);
    ticking = ticking || setInterval(() => document.hidden || clocks.forEach((tell) => tell(Date.now())), 1000);
    return () => {
      clocks.delete(setNow);
      if (clocks.size === 0) ticking = clearInterval(ticking) || 0;
    };
  }, []);
  return now;
}

const sameProps = (a, b) => JSON.stringify(a) === JSON.stringify(b) && a.onChange === b.onChange;

// ---- words -----------------------------------------------------------------------------------------------------------
const STATES = {
  asked: ["busy", "Asked for", "Airflow has not begun yet."],
  queued: ["busy", "Queued", "Slurm has the job, and waits for nodes."],
  starting: ["busy", "Starting", "The nodes are there; braynsService starts."],
  waiting: ["busy", "Submitted", "The job waits in the queue, or its services start."],
  ready: ["good", "Ready", ""],
  nodes: ["good", "Nodes are there", "No service has been started on them yet."],
  rendering: ["good", "Rendering", ""],
  rendered: ["good", "Rendered", ""],
  previewed: ["dim", "Preview", ""],
  approval: ["busy", "Waits for approval", ""],
  made: ["good", "Made", ""],
  ended: ["dim", "Ended", ""],
  failed: ["bad", "Failed", "The task's log says why."],
};
const LIVE = ["asked", "queued", "starting", "waiting", "ready", "nodes", "rendering"];
const AT_WORK = ["approval", "rendering"];
const isLive = (row) => LIVE.includes(row.state) || Boolean(row.keeper); // a keeper renews the lease of a booking that failed, too
const SESSION = "brayns_session";
const OVER = ["success", "failed", "skipped", "upstream_failed", "removed"];

// Slurm's reasons for a job that pends, in plain words; of any other one, Slurm's own word.
const REASONS = {
  None: "Slurm has not looked at it yet.",
  Priority: "Other jobs come first.",
  Resources: "It is next, and waits for nodes to come free.",
  Dependency: "It waits for another job.",
  BeginTime: "It may not start yet.",
  Licenses: "It waits for a licence.",
  Reservation: "It waits for its reservation to begin.",
  ReqNodeNotAvail: "Nodes that it needs are down, or reserved for maintenance.",
  Nodes: "Nodes that it needs are down, or kept for others.", // "Nodes required for job are DOWN, DRAINED or …"
  JobHeldUser: "It is held: scontrol release lets it go on.",
  JobHeldAdmin: "An administrator of the cluster holds it.",
  QOSMaxJobsPerUserLimit: "You have as many running jobs as your QOS allows.",
  QOSMaxNodePerUserLimit: "You use as many nodes as your QOS allows.",
  QOSMaxCpuPerUserLimit: "You use as many processors as your QOS allows.",
  QOSGrpNodeLimit: "All nodes of the QOS are in use.",
  QOSGrpCpuLimit: "All processors of the QOS are in use.",
  AssocGrpNodeLimit: "All nodes of the account are in use.",
  AssocGrpCpuLimit: "All processors of the account are in use.",
  AssocMaxJobsLimit: "The account has as many running jobs as it may have.",
  MaxCpuPerAccount: "The account uses as many processors as it may.",
};

function waitOf(row) {
  const wait = row.wait || {};
  if (row.state === "starting") {
    const many = (wait.nodes || []).length;
    if (many === 0) return "The keeper starts.";
    return `On ${(wait.nodes || []).slice(0, 4).join(", ")}${many > 4 ? ` and ${many - 4} more` : ""}: ${wait.listening ? "it listens, and is asked whether it is usable." : "braynsService starts."}`;
  }
  const plain = (reason) => (/^\(?(\w+)/.exec(reason) || ["", ""])[1]; // Slurm writes "(ReqNodeNotAvail, UnavailableNodes:n1)", too
  const why = (wait.reasons || []).map((one) => (Object.hasOwn(REASONS, plain(one)) ? REASONS[plain(one)] : `Slurm says ${one}.`)).join(" ");
  return `${why}${wait.start ? ` Slurm expects it to start at ${wait.start.replace("T", " ")}, by the cluster's clock.` : ""}`;
}

function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole >= 86400) return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
  if (whole >= 3600) return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} min`;
  return whole >= 60 ? `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s` : `${whole} s`;
}

function zone() {
  try {
    return JSON.parse(localStorage.getItem("timezone") || "null") || undefined;
  } catch {
    return undefined;
  }
}

const formats = new Map();

function formatOf(language, timeZone) {
  const key = `${language} ${timeZone}`;
  if (!formats.has(key)) {
    const form = { dateStyle: "medium", timeStyle: "short" };
    let made;
    try {
      made = new Intl.DateTimeFormat(language, { ...form, timeZone });
    } catch {
      made = new Intl.DateTimeFormat("en", form);
    }
    formats.set(key, made);
  }
  return formats.get(key);
}

function clock(text) {
  const at = new Date(text);
  return Number.isNaN(at.getTime()) ? text : formatOf(document.documentElement.lang || "en", zone()).format(at);
}

const shellWord = (text) => (/^[\w./:=@%+,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
const runOf = (row) => `/dags/${encodeURIComponent(row.dag_id)}/runs/${encodeURIComponent(row.run_id)}`;
const taskOf = (row) => `${runOf(row)}/tasks/${encodeURIComponent(row.task_id)}${row.map_index >= 0 ? `/mapped/${row.map_index}` : ""}`;
const apiOf = (row) => `api/v2/dags/${encodeURIComponent(row.dag_id)}/dagRuns/${encodeURIComponent(row.run_id)}`;
const taskApiOf = (row, name, index) => `${apiOf(row)}/taskInstances/${encodeURIComponent(name)}${index >= 0 ? `/${index}` : ""}`;
const keyOf = (row) => [row.dag_id, row.run_id, row.task_id, row.map_index].join("\n");

// ---- small parts -----------------------------------------------------------------------------------------------------
function Copy({ text, what }) {
  const [said, setSaid] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setSaid("Copied");
    } catch {
      setSaid("Press Ctrl-C"); // a page without https has no clipboard: the text is selected instead
      const field = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(field);
      field.select();
      if (document.execCommand("copy")) setSaid("Copied");
      field.remove();
    }
    setTimeout(() => setSaid(""), 2000);
  };
  return h(React.Fragment, null,
    h("button", { type: "button", onClick: copy, "aria-label": `Copy ${what}` }, said || "Copy"),
    h("span", { className: "heard", role: "status" }, said));
}

const Lines = ({ text, what }) => h("div", null, h("div", { className: "line" }, h("strong", { className: "grow" }, what), h(Copy, { text, what })), h("pre", { tabIndex: 0, "aria-label": what }, text));
const Fact = ({ name, children }) => h(React.Fragment, null, h("dt", null, name), h("dd", null, children));

function State({ row }) {
  const [tone, word] = STATES[row.state] || ["dim", row.state];
  return h("span", { className: `state ${tone}` }, word);
}

function Confirm({ title, text, yes, onYes, onNo }) {
  const box = useRef(null);
  const [trouble, setTrouble] = useState("");
  const [busy, setBusy] = useState(false);
  useEffect(() => box.current.showModal(), []);
  const go = async () => {
    setBusy(true);
    try {
      await onYes();
    } catch (error) {
      setTrouble(error.status === 403 ? "You may not do that: ask whoever looks after this Airflow." : error.message);
      setBusy(false);
    }
  };
  return h("dialog", { ref: box, onClose: onNo, "aria-labelledby": "brayns-asks" },
    h("h2", { id: "brayns-asks", style: { marginTop: 0 } }, title), h("p", null, text),
    trouble && h("p", { className: "bad", role: "alert" }, trouble),
    h("div", { className: "line", style: { marginTop: 14, justifyContent: "flex-end" } },
      h("button", { type: "button", autoFocus: true, onClick: () => box.current.close() }, "No"),
      h("button", { type: "button", className: "main", disabled: busy, onClick: go }, busy ? "…" : yes)));
}

// ---- services --------------------------------------------------------------------------------------------------------
// How a row is ended, by Airflow's own API: the least that gives its nodes back.
function endOf(row, may) {
  const mark = (name, index, state) => ask(taskApiOf(row, name, index), "PATCH", { new_state: state });
  const endRun = () => change(apiOf(row), "run", { state: "failed" });
  if (row.keeper && may.includes("mark")) {
    return { title: "Release the session?", text: "Its services end, and the nodes are given back at once.", yes: "Release", go: () => mark(...row.keeper, "success") };
  }
  const taken = { title: "Take it back?", text: "The job is cancelled, and the run fails.", yes: "Take it back" };
  if (["waiting", "queued", "starting"].includes(row.state)) {
    // Of a session, the run: its release gives back also what a task booked that has succeeded meanwhile.
    if (row.dag_id === SESSION && may.includes("end")) return { ...taken, go: endRun };
    if (may.includes("mark")) return { ...taken, go: () => change(taskApiOf(row, row.task_id, row.map_index ?? -1), "task", { new_state: "failed" }) };
  }
  if (isLive(row) && may.includes("end")) {
    return { title: "End the whole run?", text: "All its tasks are stopped, and its nodes are given back.", yes: "End the run", go: endRun };
  }
  return null;
}

// What has just ended stays so: a task that succeeded and is then marked as failed, nobody would release; and a run that succeeded would count as failed.
async function change(path, what, body) {
  const { value } = await ask(path);
  if (OVER.includes(value && value.state)) throw new Refused(409, `Close this and look again: the ${what} has ended meanwhile, and was left as it is.`);
  await ask(path, "PATCH", body);
}

// When the first of what it needs is over, in milliseconds; null where nobody knows.
function endTime(row) {
  const own = row.until && (row.following || []).length > 0 ? [] : (row.services || []).map((one) => one.ends_at); // where others follow on, each says it of itself
  const ends = [row.until, ...own].map((one) => new Date(one || NaN).getTime()).filter((one) => !Number.isNaN(one));
  return ends.length === 0 || !isLive(row) ? null : Math.min(...ends);
}

const endsSoon = (row, now) => endTime(row) !== null && (endTime(row) - now) / 1000 < WARN;

// More time for a session: the task that asks for it is cleared, by Airflow's own API. A second click while it runs is refused there.
function extensionOf(row, may) {
  const { extend } = row;
  if (!extend || !row.keeper || !may.includes("mark")) return null;
  const [name, index] = extend.task;
  const body = { dry_run: false, dag_run_id: row.run_id, task_ids: [index >= 0 ? [name, index] : name], only_failed: false, reset_dag_runs: false, prevent_running_task: true };
  const go = async () => {
    try {
      await ask(`api/v2/dags/${encodeURIComponent(row.dag_id)}/clearTaskInstances`, "POST", body);
    } catch (error) {
      throw error.status === 409 ? new Refused(409, "It is being asked for already: close this and look again.") : error;
    }
  };
  const text = `It lasts ${extend.minutes} minutes from now on. Where its job does not get the time, another one is queued that follows on, with services of its own: both run until the first one ends.`;
  return { title: "Extend the session?", text, yes: "Extend", go };
}

// What came of it.
const GIVEN = {
  room: "Extended: its job has the time.",
  raised: "Extended: the time limit of its job was raised.",
  follow_on: "The time limit of its job was not raised",
  refused: "It was not extended",
};

function extensionText(row) {
  const { extend } = row;
  if (extend.state === "asked") return "More time is being asked for.";
  if (extend.state === "failed") return "More time could not be asked for: the log of its task says why.";
  if (extend.how === "follow_on" || extend.how === "refused") return `${GIVEN[extend.how]}${extend.why ? ` (${extend.why.trim()})` : ""}.`;
  return Object.hasOwn(GIVEN, extend.how || "") ? GIVEN[extend.how] : "";
}

function followingText(one) {
  if (one.state === "ready") return `Job ${one.job} follows on, and is ready.`;
  return `Job ${one.job} follows on: ${one.state === "queued" ? "queued." : "it starts."} ${waitOf(one)}`;
}

function Extension({ row }) {
  const texts = [extensionText(row), ...(row.following || []).map(followingText)].filter(Boolean);
  if (texts.length === 0) return null;
  const [name, index] = row.extend.task;
  return h(Fact, { name: "More time" }, h("bdi", null, texts.join(" ")), row.extend.how || row.extend.state ? h(React.Fragment, null, " ", h(Link, { to: taskOf({ ...row, task_id: name, map_index: index }) }, "its log")) : null);
}

// One that follows on and waits has its time before it.
const isWarnedOf = (row, now) => endsSoon(row, now) && !(row.following || []).some((one) => one.state !== "ready");

function ExtendButton({ row, extension, onExtend, main }) {
  const asked = row.extend.state === "asked";
  const title = extension ? undefined : "You may look at this run, and not change it.";
  return h("button", { type: "button", className: main ? "main" : "", disabled: asked || !extension, title, onClick: onExtend }, asked ? "Being extended" : "Extend…");
}

function Extend({ row, extension, onExtend }) {
  const now = useNow();
  return extension && isWarnedOf(row, now) ? null : h(ExtendButton, { row, extension, onExtend }); // else it stands in the warning
}

// In the card itself: whoever looks at one of many sees which, and can act there.
function Ending({ row, extension, onExtend }) {
  if (!isWarnedOf(row, useNow())) return null;
  return h("div", { className: "note warn" }, h("div", { className: "line" },
    h("span", { className: "grow", role: "alert" }, `This session ends at ${clock(endTime(row))}: what is loaded in it is lost then.`),
    extension && h(ExtendButton, { row, extension, onExtend, main: true })));
}

function TimeLeft({ row }) {
  const now = useNow();
  const end = endTime(row);
  if (end === null) return null;
  const left = (end - now) / 1000;
  const soon = left < WARN;
  return h(React.Fragment, null,
    h("span", { className: soon ? "warn" : "", title: clock(end) }, left > 0 ? `${soon ? "Ends in" : ""} ${duration(left)}${soon ? "" : " left"}` : "Its time is over")); // the seconds would be read out each second: the warning is, once
}

function Since({ at }) {
  const passed = (useNow() - new Date(at).getTime()) / 1000;
  return passed > 0 ? h(Fact, { name: "Since" }, `${clock(at)}, ${duration(passed)}`) : null;
}

// ---- a service's log -------------------------------------------------------------------------------------------------
const LINES = 300; // of a log that are shown

// The log of the task that watches a service has its start and its warnings. Airflow's own API tells it, with its permission, from where it was read last.
function useServiceLog(row, one, open) {
  const [lines, setLines] = useState(null);
  const [trouble, setTrouble] = useState("");
  const [name, index] = row.keeper || [row.task_id, row.map_index ?? -1];
  useEffect(() => {
    if (!open) return undefined;
    let timer = 0;
    let there = true;
    let token = "";
    let path = "";
    const mine = `[${one.node} ${one.service}] `;
    const look = async () => {
      if (!document.hidden) {
        try {
          if (!path) {
            const { value } = await ask(taskApiOf(row, name, index));
            path = `${taskApiOf(row, name, -1)}/logs/${value.try_number || 1}?map_index=${index}&full_content=false`;
          }
          const { value } = await ask(`${path}${token ? `&token=${encodeURIComponent(token)}` : ""}`);
          if (!there) return;
          const found = (value.content || []).filter((each) => typeof each.event === "string" && each.event.startsWith(mine)).map((each) => each.event.slice(mine.length));
          token = value.continuation_token || "";
          setLines((before) => [...(before || []), ...found].slice(-LINES));
          setTrouble("");
          if (!token) return; // its end
        } catch (error) {
          if (!there) return;
          setTrouble(error.status === 403 ? "You may not read the logs of its tasks." : error.message);
        }
      }
      timer = setTimeout(look, EVERY);
    };
    setLines(null);
    look();
    return () => {
      there = false;
      clearTimeout(timer);
    };
  }, [open, row.dag_id, row.run_id, name, index, one.node, one.service]);
  return { lines, trouble };
}

function ServiceLog({ one, row }) {
  const [open, setOpen] = useState(false);
  const { lines, trouble } = useServiceLog(row, one, open);
  const end = useRef(null);
  useEffect(() => { if (end.current) end.current.scrollTop = end.current.scrollHeight; }, [lines]);
  return h("details", { onToggle: (event) => setOpen(event.currentTarget.open) }, h("summary", null, "Log"),
    trouble && h("p", { className: "bad", role: "alert" }, trouble),
    open && lines === null && !trouble && h("p", { className: "dim", role: "status" }, "Loading the log …"),
    lines && lines.length === 0 && h("p", { className: "dim" }, "It has said nothing yet that its task's log shows."),
    lines && lines.length > 0 && h("pre", { ref: end, tabIndex: 0, "aria-label": `Log of ${one.service} on ${one.node}`, style: { maxHeight: 320, overflow: "auto" } }, lines.join("\n")),
    one.log && h(Lines, { what: "All that it says, on the cluster", text: `tail -f ${shellWord(one.log)}` }));
}

function Service({ one, row, connect }) {
  const tunnelled = (one.tunnel || "").startsWith("ssh");
  const near = tunnelled ? "localhost:5000" : one.endpoint;
  const lines = (one.tls ? connect.tls : connect.plain).replace("{endpoint}", near);
  return h("div", { style: { marginTop: 8 } },
    h("div", { className: "line" }, h("code", { className: "endpoint" }, one.endpoint), h(Copy, { text: one.endpoint, what: `endpoint ${one.endpoint}` }),
      one.follows && h("span", { className: "good" }, "follows on"),
      !one.follows && one.ends_at && (row.following || []).length > 0 && h("span", { className: "warn" }, `ends at ${clock(one.ends_at)}: what is loaded in it is lost then`),
      h("span", { className: "dim" }, [one.version && `braynsService ${one.version}`, (one.plugins || []).join(", ")].filter(Boolean).join(" · "))),
    h("details", null, h("summary", null, "Connect"),
      tunnelled && one.tunnel && h(Lines, { what: "Tunnel, on your machine", text: one.tunnel }),
      h(Lines, { what: "Python", text: lines }),
      one.connect && h(Lines, { what: "Tunnel, where Airflow is installed", text: one.connect })),
    h(ServiceLog, { one, row }));
}

const ServiceCard = React.memo(function ServiceCard({ row, may, connect, onChange }) {
  const [asking, setAsking] = useState(null); // what was asked at the click: it does not change under the cursor
  const [asked, setAsked] = useState(false);
  const end = endOf(row, may);
  const live = isLive(row);
  const extension = live ? extensionOf(row, may) : null;
  const isAnother = asking !== null && ![end, extension].some((one) => one !== null && one.title === asking.title);
  useEffect(() => { if (isAnother) setAsking(null); }, [isAnother]);
  useEffect(() => setAsked(false), [live, row.since]); // its run was cleared: what there is now is another booking
  const text = row.why || (row.wait && waitOf(row)) || (STATES[row.state] || ["", "", ""])[2];
  return h("li", { className: "card", style: { listStyle: "none" }, "aria-label": `${row.dag_id} ${row.run_id}` },
    h("div", { className: "line" }, h(State, { row }), h(TimeLeft, { row }), h("span", { className: "dim grow" }, h("bdi", null, text)),
      live && row.extend && h(Extend, { row, extension, onExtend: () => setAsking(extension) }),
      live && (end ? h("button", { type: "button", className: "end", disabled: asked, onClick: () => setAsking(end) }, asked ? "Being given back" : `${end.yes}…`)
        : h("button", { type: "button", disabled: true, title: "You may look at this run, and not end it." }, "Release…"))),
    live && h(Ending, { row, extension, onExtend: () => setAsking(extension) }),
    (row.services || []).slice(0, live ? 50 : 0).map((one) => h(Service, { key: `${one.job_id} ${one.service}`, one, row, connect })),
    live && (row.services || []).length > 50 && h("p", { className: "dim" }, `and ${row.services.length - 50} more: XCom services of its task has all`),
    h("dl", null,
      h(Fact, { name: "Run" }, h(Link, { to: runOf(row) }, h("bdi", null, `${row.dag_id} ${row.run_id}`))),
      row.who && h(Fact, { name: "Who" }, h("bdi", null, row.who)),
      (row.jobs || []).length > 0 && h(Fact, { name: row.scheduler === "local" ? "Process" : "Job" }, row.jobs.slice(0, 8).join(", ") + (row.jobs.length > 8 ? ` and ${row.jobs.length - 8} more` : "")),
      (row.plugins || []).length > 0 && !(live && row.services) && h(Fact, { name: "Plugins" }, row.plugins.join(", ")),
      live && row.extend && h(Extension, { row }),
      live && row.since && h(Since, { at: row.since }),
      !live && row.ended_at && h(Fact, { name: "Ended" }, clock(row.ended_at)),
      row.task_id && h(Fact, { name: "Log" }, h(Link, { to: taskOf(row) }, "what the task logs")),
      row.name && h(Fact, { name: "Name" }, h("code", null, row.name))),
    asking && h(Confirm, { ...asking, onNo: () => setAsking(null), onYes: async () => { await asking.go(); if (asking.title !== (extension && extension.title)) setAsked(true); setAsking(null); onChange(); } }));
}, sameProps);

// ---- movies ----------------------------------------------------------------------------------------------------------
const PARTS = { movie: "Movie", poster: "Poster", contact_sheet: "Contact sheet", preview: "Preview" };
const isPicture = (path) => /\.(gif|png|jpe?g)$/i.test(path);

// A file that the row's task has recorded; of another time it is another address.
function fileOf(row, what, at) {
  const task = { dag_id: row.dag_id, run_id: row.run_id, task_id: row.task_id, map_index: row.map_index ?? -1 };
  return url(`brayns/movies/${what}?${new URLSearchParams({ ...task, at: at || "" })}`).href;
}

const ELSEWHERE = "The API server's machine has no such file";

// Why it is not shown, only the server can tell: the file is elsewhere, or the browser knows no such movie.
async function whyNot(src, path) {
  const answer = await fetch(src, { headers: { Range: "bytes=0-0" }, credentials: "same-origin" }).catch(() => null);
  if (answer && answer.ok) return "This browser does not show such a file.";
  if (answer && answer.status === 404) return `${ELSEWHERE}; on the worker it is ${path}.`;
  return answer ? `Airflow answered ${answer.status}.` : "Airflow's API server does not answer.";
}

function Picture({ src, name, path }) {
  const [trouble, setTrouble] = useState("");
  useEffect(() => setTrouble(""), [src]);
  if (trouble) return h("p", { className: "dim", role: "status" }, `${name}: ${trouble}`);
  return h("figure", null, h("img", { src, alt: name, onError: async () => setTrouble(await whyNot(src, path)) }), h("figcaption", { className: "dim" }, name));
}

function Film({ row }) {
  const [trouble, setTrouble] = useState("");
  const src = fileOf(row, "movie", row.ended_at);
  const lost = async () => setTrouble(await whyNot(src, row.movie.movie));
  useEffect(() => setTrouble(""), [src]);
  return h("figure", null,
    trouble ? h("p", { className: "dim", role: "status" }, trouble) : h("video", { src, controls: true, preload: "metadata", playsInline: true, onError: lost, "aria-label": "the movie" }),
    !trouble.startsWith(ELSEWHERE) && h("figcaption", null, h("a", { href: src, download: row.movie.movie.split("/").pop() }, "Download the movie")));
}

const halfMinute = (at) => String(Math.floor(new Date(at).getTime() / 30000)); // a frame is sent in full size

// Nothing is asked for until somebody opens it: 200 movies on a page cost as much as one.
function Look({ row }) {
  const [open, setOpen] = useState(false);
  const made = row.movie || {};
  const live = row.state === "rendering" && row.glimpse;
  if (!live && Object.keys(made).length === 0) return null;
  const rest = Object.keys(made).filter((name) => name !== "movie" || isPicture(made.movie));
  return h("details", { className: "look", onToggle: (event) => setOpen(event.currentTarget.open) },
    h("summary", null, live ? "See what is there" : "See it"),
    open && live && h(Picture, { src: fileOf(row, "glimpse", row.at), name: "What is there, frames from all of the movie", path: `in ${row.glimpse}` }),
    open && live && h(Picture, { src: fileOf(row, "newest", halfMinute(row.at)), name: "Newest frame", path: `in ${row.glimpse}` }),
    open && !live && made.movie && !isPicture(made.movie) && h(Film, { row }),
    open && !live && rest.map((name) => h(Picture, { key: name, src: fileOf(row, name, row.ended_at), name: PARTS[name] || name, path: made[name] })));
}

const hours = (value) => (value < 0.1 ? value.toFixed(4) : value.toFixed(2));

// A person's answer to Airflow's own question (its ApprovalOperator); Airflow says who may answer.
function Approval({ row, may, onChange }) {
  const [asking, setAsking] = useState(null);
  const { ask: question } = row;
  const send = (answer) => ask(`${apiOf(row)}/taskInstances/${encodeURIComponent(question.task_id)}/${question.map_index}/hitlDetails`, "PATCH", { chosen_options: [answer], params_input: {} });
  const button = (answer, text, name) => h("button", { type: "button", className: name, disabled: !may.includes("answer"), onClick: () => setAsking({ title: `${answer}?`, yes: answer, text, go: () => send(answer) }) }, `${answer}…`);
  return h("div", { className: "note" }, h("div", { className: "line" }, h("span", { className: "grow" }, h("bdi", null, question.subject)),
    button("Approve", "The tasks behind the question go on, which ask for the nodes and render.", "main"), button("Reject", "The tasks behind the question are skipped.", "end")),
  asking && h(Confirm, { ...asking, onNo: () => setAsking(null), onYes: async () => { await asking.go(); setAsking(null); onChange(); } }));
}

const MovieCard = React.memo(function MovieCard({ row, may, onChange }) {
  const done = row.done || 0;
  const nodes = Object.entries(row.nodes || {});
  const missing = row.total - done;
  return h("li", { className: "card", style: { listStyle: "none" }, "aria-label": `movie of ${row.dag_id} ${row.run_id}` },
    h("div", { className: "line" }, h(State, { row }), h("span", { className: "grow" }, row.total ? `${done} of ${row.total} ${row.noun || "frames"}` : ""),
      row.state === "rendering" && row.frames_per_second > 0 && h("span", { className: "dim" }, `${row.frames_per_second} a second`),
      row.state === "rendering" && row.seconds_left != null && h("span", { className: "dim" }, `${duration(row.seconds_left)} left`)),
    row.total > 0 && h("progress", { max: row.total, value: done, "aria-label": "frames that are there" }),
    h(Look, { row }),
    row.ask && h(Approval, { row, may, onChange }),
    h("dl", null,
      h(Fact, { name: "Run" }, h(Link, { to: runOf(row) }, h("bdi", null, `${row.dag_id} ${row.run_id}`))),
      row.who && h(Fact, { name: "Who" }, h("bdi", null, row.who)),
      nodes.length > 0 && h(Fact, { name: "Nodes" }, nodes.slice(0, 12).map(([name, share]) => `${name} ${share}`).join(", ") + (nodes.length > 12 ? ` and ${nodes.length - 12} more` : "")),
      ["failed", "ended"].includes(row.state) && missing > 0 && h(Fact, { name: "Missing" }, `${missing} ${row.noun || "frames"}${row.glimpse ? "; another try goes on from those that are there" : ""}`),
      row.node_hours > 0 && h(Fact, { name: "Node-hours" }, hours(row.node_hours) + (row.efficiency != null ? `, ${Math.round(100 * row.efficiency)} % of them rendering` : "")),
      row.state === "rendering" && row.at && h(Fact, { name: "Last frame" }, clock(row.at)),
      Object.entries(row.movie || {}).map(([name, path]) => h(Fact, { key: name, name: PARTS[name] || name },
        h("span", { className: "line" }, h("code", { style: { overflowWrap: "anywhere" } }, path), h(Copy, { text: path, what: `path of the ${name}` })))),
      row.task_id && h(Fact, { name: "Log" }, h(Link, { to: taskOf(row) }, "what the task logs"))));
}, sameProps);

// ---- allocate --------------------------------------------------------------------------------------------------------
const MEMORY = "airflow-brayns.form";

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(MEMORY) || "{}") || {};
  } catch {
    return {};
  }
}

function remember(values) {
  try {
    localStorage.setItem(MEMORY, JSON.stringify(values));
  } catch {
    // a full or forbidden store: the form is filled in anew next time
  }
}

// What a link fills in: ?minutes=30&plugins=a,b
function ofLink(params) {
  const found = {};
  for (const [name, text] of new URLSearchParams(window.location.search)) {
    if (!Object.hasOwn(params, name)) continue;
    found[name] = isList(params[name]) ? text.split(",").filter(Boolean) : text;
  }
  return found;
}

const types = (param) => [param.schema.type || "string"].flat();
const isList = (param) => types(param).includes("array");

function typed(param, value) {
  if (isList(param)) return value;
  if (value === "" || value === null || value === undefined) return null;
  if (typeof value !== "string") return value;
  if (types(param).includes("boolean") && (value === "true" || value === "false")) return value === "true";
  if (types(param).includes("string")) return value;
  return Number(value);
}

function Field({ name, param, value, set, trouble, says, offers }) {
  const { schema } = param;
  const id = `brayns-${name}`;
  const help = schema.description_md || schema.description || param.description || "";
  const about = { id, name, "aria-describedby": `${id}-help`, "aria-invalid": trouble ? true : undefined };
  const title = schema.title || name;
  const chosen = (offers || []).find((one) => one.is === value);
  const below = h("div", { className: "help", id: `${id}-help` }, help, chosen && chosen.says && h("div", null, `${chosen.is}: ${chosen.says}.`), says && h("div", null, `The connection says ${says}.`), trouble && h("div", { className: "bad", role: "alert" }, trouble));
  if (isList(param)) {
    const ticked = value || [];
    const all = [...new Set([...(schema.examples || []), ...ticked])];
    const toggle = (one) => set(ticked.includes(one) ? ticked.filter((other) => other !== one) : [...ticked, one]);
    return h("fieldset", { className: "wide" }, h("legend", null, title),
      h("div", { className: "line" }, all.map((one) => h("label", { key: one }, h("input", { type: "checkbox", checked: ticked.includes(one), onChange: () => toggle(one) }), " ", one))), below);
  }
  const shown = value === null || value === undefined ? "" : String(value);
  const change = (event) => set(event.target.value);
  let field;
  if (schema.enum || types(param).includes("boolean")) {
    const choices = (schema.enum || [true, false]).filter((one) => one !== null).map(String);
    field = h("select", { ...about, value: shown, onChange: change }, types(param).includes("null") && h("option", { value: "" }, "as the connection says"), choices.map((one) => h("option", { key: one, value: one }, one)));
  } else if (types(param).some((one) => one === "integer" || one === "number") && !types(param).includes("string")) {
    field = h("input", { ...about, type: "number", value: shown, onChange: change, min: schema.minimum, max: schema.maximum, step: types(param).includes("integer") ? 1 : "any", required: !types(param).includes("null") });
  } else {
    const list = offers && offers.length > 0 ? `${id}-offers` : undefined; // what the cluster offers; anything else may be typed, too
    field = h("input", { ...about, type: "text", list, value: shown, onChange: change, maxLength: 2000, pattern: schema.pattern, required: !types(param).includes("null"), spellCheck: false, autoComplete: "off" });
  }
  const texts = (offers || []).map((one) => h("option", { key: one.is, value: one.is }, one.says));
  return h("div", null, h("label", { htmlFor: id }, title), field, texts.length > 0 && h("datalist", { id: `${id}-offers` }, texts), below);
}

function Allocate({ session, onStarted, onClose }) {
  const [params, setParams] = useState(null);
  const [clusters, setClusters] = useState({ clusters: [], offers: {} });
  const [values, setValues] = useState({});
  const [trouble, setTrouble] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    let there = true;
    ask(`api/v2/dags/${session.dag_id}/details`).then(({ value }) => {
      if (!there) return;
      const found = Object.fromEntries(Object.entries(value.params || {}).map(([name, one]) => [name, { ...one, schema: one.schema || {} }]));
      const before = Object.fromEntries(Object.entries(remembered()).filter(([name, value]) => Object.hasOwn(found, name) && Array.isArray(value) === isList(found[name]))); // by this version's form
      const defaults = Object.fromEntries(Object.entries(found).map(([name, one]) => [name, one.value]));
      setValues({ ...defaults, ...before, ...ofLink(found) });
      setParams(found);
    }).catch((error) => there && setTrouble(error));
    ask("brayns/clusters").then(({ value }) => there && setClusters(value)).catch(() => {}); // the form does without
    return () => { there = false; };
  }, [session.dag_id]);
  const conf = useMemo(() => {
    if (!params) return {};
    const given = Object.entries(params).map(([name, one]) => [name, typed(one, values[name])]);
    return Object.fromEntries(given.filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(params[name].value ?? null)));
  }, [params, values]);
  if (trouble && !params) return h("div", { className: "note bad", role: "alert" }, `The form cannot be shown. ${trouble.message}`);
  if (!params) return h("p", { className: "dim", role: "status" }, "Loading the form …");
  const offers = clusters.offers[values.cluster_conn_id] || {};
  const says = (clusters.clusters.find((one) => one.id === values.cluster_conn_id) || { says: {} }).says;
  const at = (name) => (trouble && trouble.message.split(/\W+/).includes(name) ? trouble.message : "");
  const field = ([name, param]) => h(Field, { key: name, name, param, value: values[name], says: says[name], offers: offers[name], trouble: at(name), set: (value) => setValues((all) => ({ ...all, [name]: value })) });
  const open = Object.entries(params).filter(([, one]) => !one.schema.section);
  const folded = Object.entries(params).filter(([, one]) => one.schema.section);
  const send = async (event) => {
    event.preventDefault();
    setBusy(true);
    setTrouble(null);
    try {
      const { value } = await ask(`api/v2/dags/${session.dag_id}/dagRuns`, "POST", { logical_date: null, conf });
      remember(values);
      onStarted(value.dag_run_id);
    } catch (error) {
      setTrouble(error);
    }
    setBusy(false);
  };
  const text = shellWord(JSON.stringify(conf));
  return h("section", { className: "card", "aria-labelledby": "brayns-allocate" },
    h("h2", { id: "brayns-allocate", style: { marginTop: 0 } }, "Allocate"),
    h("form", { onSubmit: send }, open.map(field),
      folded.length > 0 && h("details", { className: "wide", onInvalidCapture: (event) => { event.currentTarget.open = true; } }, h("summary", null, "More"), h("div", { style: { display: "grid", gap: 12, gridTemplateColumns: "repeat(auto-fill, minmax(min(300px, 100%), 1fr))" } }, folded.map(field))),
      h("details", { className: "wide" }, h("summary", null, "What would run"),
        h(Lines, { what: "The same from a terminal", text: `airflow dags trigger ${session.dag_id} -c ${text}` }),
        h(Lines, { what: "The sbatch line and the job's script, without submitting", text: `airflow brayns script ${session.dag_id} brayns -c ${text}` })),
      trouble && h("div", { className: "wide note bad", role: "alert" }, trouble.message),
      h("div", { className: "wide line" }, h("button", { type: "submit", className: "main", disabled: busy }, busy ? "Starting …" : "Allocate"), h("button", { type: "button", onClick: onClose }, "Close"))));
}

// ---- the page --------------------------------------------------------------------------------------------------------
function Trouble({ trouble, shown }) {
  const now = useNow();
  if (!trouble) return null;
  if (trouble.status === 401 || trouble.status === 403) { // Airflow answers 403 to a token that it does not take
    const login = url(`api/v2/auth/login?next=${encodeURIComponent(window.location.href)}`);
    return h("div", { className: "note bad", role: "alert" }, "You are not logged in any more. ", h("a", { href: login.href }, "Log in"));
  }
  if (trouble.status === 404) return h("div", { className: "note bad", role: "alert" }, "The API server that answered has no part of airflow-brayns. Install the package there too, in this page's version, and restart it.");
  const heard = shown && kept.at ? ` What is shown was heard ${duration((now - kept.at) / 1000)} ago.` : "";
  return h("div", { className: "note warn", role: "alert" }, `${trouble.message}${heard} It is tried again by itself.`);
}

function Cannot({ session }) {
  if (!session) return h("p", { className: "dim" }, "There is no DAG brayns_session to allocate with, or you may not see it. Whoever looks after this Airflow gets it by ", h("code", null, "airflow brayns examples DAG_FOLDER"), ".");
  if (session.paused) return h("div", { className: "note warn" }, "The DAG ", h(Link, { to: `/dags/${session.dag_id}` }, session.dag_id), " is paused: what is asked for, extended or released waits until somebody unpauses it.");
  if (!session.may.includes("trigger")) return h("p", { className: "dim" }, "You may look at what runs, and not allocate: ask whoever looks after this Airflow for the right to trigger brayns_session.");
  return null;
}

function Brayns() {
  const { shown, trouble, look } = usePolled();
  const [open, setOpen] = useState(() => new URLSearchParams(window.location.search).size > 0);
  const [started, setStarted] = useState("");
  const isThere = Boolean(shown) && shown.services.some((row) => row.run_id === started);
  useEffect(() => { if (isThere) setStarted(""); }, [isThere]);
  const style = h("style", null, STYLE);
  if (!shown) return h("main", { className: "brayns" }, style, h("div", null, h("h1", null, "Brayns"), trouble ? h(Trouble, { trouble, shown }) : h("p", { className: "dim", role: "status" }, "Loading …")));
  const { session } = shown;
  const may = Boolean(session && session.may.includes("trigger"));
  const byTime = (a, b) => (b.since || b.at || b.ended_at || "").localeCompare(a.since || a.at || a.ended_at || "");
  const services = [...shown.services].sort((a, b) => LIVE.includes(b.state) - LIVE.includes(a.state) || byTime(a, b));
  const movies = [...shown.movies].sort((a, b) => AT_WORK.includes(b.state) - AT_WORK.includes(a.state) || byTime(a, b));
  const running = services.filter((row) => LIVE.includes(row.state)).length;
  const onStarted = (run) => {
    setStarted(run);
    setOpen(false);
    look();
  };
  return h("main", { className: "brayns" }, style, h("div", null,
    h("header", null, h("h1", null, "Brayns"), h("button", { type: "button", className: "main", disabled: !may, "aria-expanded": open, onClick: () => setOpen(!open) }, "Allocate…")),
    h(Trouble, { trouble, shown }), h(Cannot, { session }),
    started && !isThere && h("div", { className: "note", role: "status" }, "Asked for: ", h(Link, { to: runOf({ dag_id: SESSION, run_id: started }) }, h("bdi", null, started))),
    open && may && h(Allocate, { session, onStarted, onClose: () => setOpen(false) }),
    h("h2", null, `Services (${running} running)`),
    services.length === 0 && h("p", { className: "dim" }, "Nothing that you may see runs, or has ended in the last day.", may && " Allocate starts a braynsService to work with."),
    h("ul", { style: { padding: 0, margin: 0 } }, services.map((row) => h(ServiceCard, { key: keyOf(row), row, may: shown.may[row.dag_id] || [], connect: shown.connect, onChange: look }))),
    h("h2", null, `Movies (${movies.filter((row) => row.state === "rendering").length} rendering)`),
    movies.length === 0 && h("p", { className: "dim" }, "No movie that you may see is being rendered, and none was in the last day."),
    h("ul", { style: { padding: 0, margin: 0 } }, movies.map((row) => h(MovieCard, { key: keyOf(row), row, may: shown.may[row.dag_id] || [], onChange: look }))),
    shown.more > 0 && h("p", { className: "dim" }, `${shown.more} older runs are not shown.`),
    h("p", { className: "dim", style: { marginTop: 22 } }, `airflow-brayns ${shown.version}`)));
}

globalThis.Brayns = Brayns;
