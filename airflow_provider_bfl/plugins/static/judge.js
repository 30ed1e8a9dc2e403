// SPDX-License-Identifier: Apache-2.0
// What comes from XCom was written by whoever may write a Dag, and is shown to whoever may read it. So nothing of it is
// believed: every field is taken by name, checked for its type, cut to a length and freed of characters that change how
// other text is shown. What is left is plain text, finite numbers and inline raster pictures.

const MAX_TEXT = 4000;
const MAX_PICTURE = 64 * 1024;
const MAX_ITEMS = 12;
const MAX_PAIRS = 40;

// Control characters, and those that reorder the text around them.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;
// No SVG: it is a document, not a picture.
const PICTURE = /^data:image\/(?:png|jpeg|webp);base64,[A-Za-z0-9+/]+={0,2}$/;

export function text(value, limit = MAX_TEXT) {
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (typeof value !== "string") return null;
  const clean = value
    .slice(0, limit + 1)
    .replace(UNSEEN, "")
    .trim();
  if (!clean) return null;
  return clean.length > limit ? `${clean.slice(0, limit)}…` : clean;
}

export function number(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

export function time(value) {
  const at = typeof value === "string" && value.length < 64 ? new Date(value) : null;
  return at && !Number.isNaN(at.getTime()) ? at : null;
}

// No object that was landed has a query in its address; one that comes with it may be a signature.
function place(value) {
  return text(text(value, 2000)?.split(/[?#]/)[0]);
}

export function picture(value) {
  return typeof value === "string" && value.length <= MAX_PICTURE && PICTURE.test(value) ? value : null;
}

function fieldsOf(value) {
  const isObject = value !== null && typeof value === "object" && !Array.isArray(value);
  return (name) => (isObject && Object.hasOwn(value, name) ? value[name] : undefined);
}

function pairsOf(value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return [];
  const pairs = [];
  for (const name of Object.keys(value).slice(0, MAX_PAIRS)) {
    const inner = value[name];
    const shown = text(inner !== null && typeof inner === "object" ? JSON.stringify(inner) : inner, 600);
    const label = text(name, 80);
    if (label && shown) pairs.push([label, shown]);
  }
  return pairs;
}

function resultOf(field) {
  return {
    id: text(field("id"), 200),
    name: text(field("name"), 120),
    model: text(field("model"), 100),
    status: text(field("status"), 60) ?? "Unknown",
    seed: text(field("seed"), 30),
    cost: number(field("cost")),
    uri: place(field("uri")),
    contentType: text(field("content_type"), 100),
    size: number(field("size")),
    prompt: text(field("prompt")),
    thumbnail: picture(field("thumbnail")),
    width: number(field("width")),
    height: number(field("height")),
  };
}

/** Return what may be shown of a `bfl_preview` value; null for a value that is none. */
export function readPreview(value) {
  let content = value;
  if (typeof content === "string") {
    try {
      content = JSON.parse(content);
    } catch {
      // An XCom backend keeps values elsewhere, and leaves the place here.
      return { ...resultOf(() => undefined), kind: "elsewhere", pairs: [], items: [], counts: [] };
    }
  }
  const field = fieldsOf(content);
  const kind = field("kind");
  if (field("schema_version") !== 1 || (kind !== "generation" && kind !== "batch")) return null;
  const items = field("items");
  return {
    ...resultOf(field),
    kind,
    region: text(field("region"), 200),
    sha256: text(field("sha256"), 80),
    sidecarUri: place(field("sidecar_uri")),
    submittedAt: time(field("submitted_at")),
    readyAt: time(field("ready_at")),
    landedAt: time(field("landed_at")),
    urlAge: number(field("url_age_seconds")),
    reattached: field("reattached") === true,
    billedTwice: field("possibly_billed_twice") === true,
    version: text(field("provider_version"), 40),
    pairs: pairsOf(field("request")),
    total: number(field("total")),
    counts: pairsOf(field("counts"))
      .filter(([, count]) => count !== "0")
      .map(([state, count]) => [state.replaceAll("_", " "), count]),
    items: Array.isArray(items) ? items.slice(0, MAX_ITEMS).map((item) => resultOf(fieldsOf(item))) : [],
  };
}

/** Return where an XCom entry of Airflow's list belongs; null for one without a place. */
export function readEntry(value) {
  const field = fieldsOf(value);
  const [dagId, runId, taskId] = ["dag_id", "run_id", "task_id"].map(field);
  if (![dagId, runId, taskId].every((each) => typeof each === "string" && each)) return null;
  const mapIndex = field("map_index");
  return {
    dagId,
    runId,
    taskId,
    mapIndex: Number.isInteger(mapIndex) ? mapIndex : -1,
    dagName: text(field("dag_display_name"), 250) ?? text(dagId, 250),
    taskName: text(field("task_display_name"), 250) ?? text(taskId, 250),
    at: time(field("timestamp")) ?? new Date(0),
  };
}
