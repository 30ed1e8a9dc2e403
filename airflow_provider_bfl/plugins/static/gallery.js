// SPDX-License-Identifier: Apache-2.0
// The page in the navigation: the recent generations of every Dag this user may read.

import { listEntries, loadPreview, RefusedError } from "./airflow.js";
import { taskPage } from "./links.js";
import { Badge, Details, Guard, Notice, Picture, Place } from "./pieces.js";
import { h, Link, useCallback, useEffect, useId, useMemo, useRef, useState, useSearchParams } from "./react.js";
import { Style } from "./style.js";
import { ago, bytes, credits, description, when } from "./words.js";

const STEP = 24;

export function Gallery() {
  const [params, setParams] = useSearchParams();
  const filter = { dag: params.get("dag") ?? "", model: params.get("model") ?? "", state: params.get("state") ?? "" };
  const [wanted, setWanted] = useState(STEP);
  const { found, error, isLoading, reload } = useGenerations(filter.dag, wanted);
  const dags = useKnownDags(found, filter.dag);
  const [opened, setOpened] = useState(null);
  const cards = useMemo(() => grouped(found?.cards ?? []), [found]);
  const shown = cards.filter(
    ({ preview }) =>
      (!filter.model || preview.model === filter.model) && (!filter.state || preview.status === filter.state),
  );
  const choose = (name) => (event) => {
    const next = new URLSearchParams(params);
    if (event.target.value) next.set(name, event.target.value);
    else next.delete(name);
    if (name === "dag") setWanted(STEP);
    setParams(next, { replace: true });
  };
  const select = (name, label, values) =>
    h(Choice, { key: name, label, onChange: choose(name), value: filter[name], values });
  return h(
    "div",
    { className: "bfl bfl-gallery" },
    h(Style),
    h(
      "header",
      null,
      h("h1", null, "Generations by Black Forest Labs"),
      h(
        "div",
        { className: "bfl-filters" },
        select("dag", "Dag", dags),
        select("model", "Model", valuesOf(cards, "model", filter.model)),
        select("state", "State", valuesOf(cards, "status", filter.state)),
        h("button", { className: "bfl-button", disabled: isLoading, onClick: reload, type: "button" }, "Refresh"),
      ),
    ),
    found && h(Totals, { cards: shown, isLoading }),
    body({ cards, error, found, isLoading, onOpen: setOpened, reload, shown }),
    found?.hasMore &&
      h(
        "button",
        {
          className: "bfl-button bfl-more",
          disabled: isLoading,
          onClick: () => setWanted(wanted + STEP),
          type: "button",
        },
        isLoading ? "Loading …" : "Show older generations",
      ),
    found &&
      !found.isComplete &&
      h(
        "p",
        { className: "bfl-muted" },
        "There are more generations than were looked through. Choose a Dag to see its newest.",
      ),
    opened && h(Opened, { card: opened, onClose: () => setOpened(null) }),
  );
}

function body({ cards, error, found, isLoading, onOpen, reload, shown }) {
  if (error !== null) return h(Failure, { error, reload });
  if (found === null) return h("p", { "aria-busy": true, className: "bfl-muted", role: "status" }, "Loading …");
  if (cards.length === 0 && !isLoading) {
    return h(
      Notice,
      { title: "No generations yet" },
      "Here appears what the operators of Black Forest Labs' provider submit, in every Dag you may read.",
    );
  }
  if (shown.length === 0 && !isLoading) return h(Notice, { title: "Nothing matches the filters" });
  return h(
    "ul",
    { "aria-label": "Generations", className: "bfl-cards" },
    shown.map((card) => h("li", { key: card.key }, h(Guard, null, h(Card, { card, onOpen })))),
  );
}

/** Load the entries, then the values of the newest `wanted`; a value that was loaded once is not asked for again. */
function useGenerations(dagId, wanted) {
  const [state, setState] = useState({ error: null, found: null, isLoading: true });
  const [turn, setTurn] = useState(0);
  const loaded = useRef(new Map());
  useEffect(() => {
    const leaving = new AbortController();
    setState((old) => ({ ...old, error: null, isLoading: true }));
    load(dagId || "~", wanted, loaded.current, leaving.signal).then(
      (found) => setState({ error: null, found, isLoading: false }),
      (error) => leaving.signal.aborted || setState({ error, found: null, isLoading: false }),
    );
    return () => leaving.abort();
  }, [dagId, wanted, turn]);
  const reload = useCallback(() => setTurn((old) => old + 1), []);
  return { ...state, reload };
}

async function load(dagId, wanted, loaded, signal) {
  const { entries, total, isComplete } = await listEntries({ dagId }, wanted, signal);
  const newest = entries.slice(0, wanted);
  const previews = await Promise.all(
    newest.map(async (entry) => {
      const key = JSON.stringify(entry);
      if (!loaded.has(key)) loaded.set(key, await loadIfThere(entry, signal));
      return loaded.get(key);
    }),
  );
  const cards = newest
    .map((entry, index) => ({ entry, preview: previews[index] }))
    .filter((card) => card.preview !== null);
  return {
    cards,
    dags: entries.map((entry) => entry.dagId),
    hasMore: Math.max(entries.length, isComplete ? total : 0) > wanted,
    isComplete,
  };
}

async function loadIfThere(entry, signal) {
  try {
    return await loadPreview(entry, signal);
  } catch (error) {
    // Cleared, or taken away from this user, since it was listed.
    if (error instanceof RefusedError && [403, 404].includes(error.status)) return null;
    throw error;
  }
}

/** One card for each generation, however many tasks of its run worked at it: what got furthest, and what others know. */
export function grouped(cards) {
  const groups = new Map();
  for (const { entry, preview } of cards) {
    const place = JSON.stringify([entry.dagId, entry.runId, entry.taskId, entry.mapIndex]);
    const key =
      preview.kind === "generation" && preview.id ? JSON.stringify([entry.dagId, entry.runId, preview.id]) : place;
    const former = groups.get(key);
    groups.set(key, former === undefined ? { entry, key, preview } : merged(key, former, { entry, preview }));
  }
  return [...groups.values()];
}

function merged(key, one, other) {
  const [best, rest] =
    (other.preview.uri === null) === (one.preview.uri === null) || one.preview.uri !== null
      ? [one, other]
      : [other, one];
  const preview = { ...best.preview };
  for (const [name, value] of Object.entries(rest.preview)) preview[name] ??= value;
  if (preview.pairs.length === 0) preview.pairs = rest.preview.pairs;
  return { entry: best.entry, key, preview };
}

function valuesOf(cards, name, chosen) {
  return [...new Set([...cards.map(({ preview }) => preview[name]), chosen].filter(Boolean))].sort();
}

/** Every Dag that was seen since the page was opened: a chosen one narrows the list. */
function useKnownDags(found, chosen) {
  const known = useRef(new Set());
  for (const dag of found?.dags ?? []) known.current.add(dag);
  if (chosen) known.current.add(chosen);
  return [...known.current].sort();
}

function Choice({ label, onChange, value, values }) {
  const id = useId();
  return h(
    "div",
    { className: "bfl-choice" },
    h("label", { htmlFor: id }, label),
    h(
      "select",
      { id, onChange, value },
      h("option", { value: "" }, "All"),
      values.map((each) => h("option", { key: each, value: each }, each)),
    ),
  );
}

function Totals({ cards, isLoading }) {
  const costs = cards.map(({ preview }) => preview.cost).filter((cost) => cost !== null);
  const unknown = cards.length - costs.length;
  const sum = costs.reduce((total, cost) => total + cost, 0);
  const batches = cards.filter(({ preview }) => preview.kind === "batch").length;
  const words = [
    counted(cards.length - batches, "generation"),
    batches > 0 && counted(batches, "batch", "batches"),
    `${credits(sum)} in all`,
    unknown > 0 && `${unknown} of unknown cost`,
  ];
  return h(
    "p",
    { "aria-busy": isLoading, "aria-live": "polite", className: "bfl-totals" },
    words.filter(Boolean).join(" · "),
  );
}

function counted(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}

function Card({ card, onOpen }) {
  const { entry, preview } = card;
  const at = preview.landedAt ?? preview.readyAt ?? preview.submittedAt ?? entry.at;
  const isBatch = preview.kind === "batch";
  const facts = [
    isBatch ? `${preview.total ?? "?"} items` : preview.seed && `seed ${preview.seed}`,
    credits(preview.cost),
    !isBatch && bytes(preview.size),
  ];
  return h(
    "article",
    { className: "bfl-card" },
    h(
      "button",
      {
        "aria-haspopup": "dialog",
        "aria-label": `Details: ${description(preview)}`,
        className: "bfl-picture",
        onClick: () => onOpen(card),
        type: "button",
      },
      h(Picture, { preview }),
    ),
    h(
      "div",
      { className: "bfl-caption" },
      h(
        "div",
        { className: "bfl-line" },
        h(
          "strong",
          null,
          isBatch ? `Batch${preview.model ? ` · ${preview.model}` : ""}` : (preview.model ?? "Model unknown"),
        ),
        h(Badge, { status: preview.status }),
      ),
      !isBatch &&
        h(
          "p",
          { className: preview.prompt ? "bfl-clamp" : "bfl-clamp bfl-muted", title: preview.prompt ?? undefined },
          preview.prompt ? h("bdi", null, preview.prompt) : "Prompt not recorded",
        ),
      isBatch &&
        preview.counts.length > 0 &&
        h("p", { className: "bfl-clamp" }, preview.counts.map(([state, count]) => `${count} ${state}`).join(", ")),
      h("p", { className: "bfl-muted" }, facts.filter(Boolean).join(" · ")),
      h("p", { className: "bfl-line" }, h(TaskLink, { entry })),
      h(
        "div",
        { className: "bfl-line" },
        preview.uri ? h(Place, { short: true, uri: preview.uri }) : h("span"),
        h("time", { className: "bfl-muted", dateTime: at.toISOString(), title: when(at) }, ago(at)),
      ),
    ),
  );
}

function TaskLink({ entry }) {
  const name = `${entry.taskName}${entry.mapIndex >= 0 ? ` [${entry.mapIndex}]` : ""}`;
  return h(
    Link,
    { className: "bfl-task", title: `${entry.dagName} › ${entry.runId}`, to: taskPage(entry) },
    h("bdi", null, `${entry.dagName} › ${name}`),
  );
}

function Opened({ card, onClose }) {
  const dialog = useRef(null);
  useEffect(() => {
    dialog.current.showModal();
  }, []);
  const close = () => dialog.current.close();
  // The browser keeps the focus inside, closes with Escape, and gives the focus back.
  return h(
    "dialog",
    {
      "aria-label": "Details of a generation",
      className: "bfl-dialog",
      onClick: (event) => event.target === dialog.current && close(),
      onClose,
      ref: dialog,
    },
    h(
      "div",
      { className: "bfl-sheet-of-facts" },
      h(
        "div",
        { className: "bfl-line" },
        h(TaskLink, { entry: card.entry }),
        h("button", { className: "bfl-button", onClick: close, type: "button" }, "Close"),
      ),
      h(Guard, null, h(Details, { preview: card.preview })),
    ),
  );
}

function Failure({ error, reload }) {
  const again = h("button", { className: "bfl-button", onClick: reload, type: "button" }, "Try again");
  if (error instanceof RefusedError && error.status === 403) {
    return h(
      Notice,
      { title: "No permission" },
      "You may not read XComs, which is where the previews are. An administrator can grant it for single Dags.",
    );
  }
  if (error instanceof RefusedError && error.status === 401) {
    return h(Notice, { title: "Your session has ended" }, "Reload the page to sign in again.");
  }
  return h(Notice, { action: again, title: "The generations could not be loaded" }, error.message);
}
