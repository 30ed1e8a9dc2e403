// SPDX-License-Identifier: Apache-2.0
// What gallery and panel are made of. Every value reaches the page as text or as an attribute that judge.js or links.js
// has passed; no HTML is ever made of a string.

import { objectAddress } from "./links.js";
import { Component, Fragment, h, useState } from "./react.js";
import { bytes, credits, description, dimensions, isVideo, seconds, tone, when } from "./words.js";

/** Keeps one broken preview from taking the page down. */
export class Guard extends Component {
  state = { failed: false };

  static getDerivedStateFromError() {
    return { failed: true };
  }

  render() {
    return this.state.failed ? h(Notice, { title: "This preview cannot be shown" }) : this.props.children;
  }
}

export function Notice({ title, children, action }) {
  return h(
    "div",
    { className: "bfl-notice", role: "status" },
    h("p", { className: "bfl-notice-title" }, title),
    children && h("p", null, children),
    action,
  );
}

export function Badge({ status }) {
  return h("span", { className: `bfl-badge bfl-${tone(status)}` }, status);
}

function Glyph({ path }) {
  return h(
    "svg",
    { "aria-hidden": true, className: "bfl-glyph", fill: "none", stroke: "currentColor", viewBox: "0 0 24 24" },
    h("path", { d: path, strokeLinecap: "round", strokeLinejoin: "round", strokeWidth: 1.4 }),
  );
}

const FRAME = "M4 5h16v14H4zM4 16l4.5-5 4 4.5 2.5-2.5 5 5M15.5 9.2h.01";
const FILM = "M3.5 5h17v14h-17zM7.5 5v14M16.5 5v14M3.5 9.6h4M3.5 14.4h4M16.5 9.6h4M16.5 14.4h4";
const CLOCK = "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 8v4.5l3 1.8";
const CROSS = "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM9 9l6 6M15 9l-6 6";

function whyNoPicture(preview) {
  if (isVideo(preview)) return [FILM, "Video"];
  if (preview.kind === "elsewhere") return [FRAME, "Kept by the XCom backend"];
  if (tone(preview.status) === "open") return [CLOCK, preview.status];
  if (tone(preview.status) === "bad") return [CROSS, "No result"];
  return [FRAME, preview.uri === null ? "Not stored" : "No thumbnail"];
}

/** The thumbnail, a batch's contact sheet, or the reason why there is none. */
export function Picture({ preview }) {
  const tiles = preview.items.filter((item) => item.thumbnail !== null);
  if (tiles.length > 0) {
    const images = tiles.map((item, index) => h("img", { alt: "", key: index, src: item.thumbnail }));
    const label = description(preview);
    return h("span", { "aria-label": label, className: `bfl-sheet bfl-of-${columns(tiles)}`, role: "img" }, images);
  }
  if (preview.thumbnail !== null) {
    return h("img", { alt: description(preview), className: "bfl-image", src: preview.thumbnail });
  }
  const [glyph, reason] = whyNoPicture(preview);
  return h("span", { className: "bfl-blank" }, h(Glyph, { path: glyph }), reason);
}

function columns(tiles) {
  if (tiles.length === 1) return 1;
  return tiles.length <= 4 ? 2 : tiles.length <= 9 ? 3 : 4;
}

function Copy({ value, what }) {
  const [copied, setCopied] = useState(false);
  const copy = () =>
    navigator.clipboard?.writeText(value).then(
      () => setCopied(true),
      () => {},
    );
  // Browsers give no clipboard to pages without TLS; the text beside it can be selected.
  if (!navigator.clipboard) return null;
  const label = copied ? `Copied the ${what}` : `Copy the ${what}`;
  return h(
    "button",
    { "aria-label": label, className: "bfl-copy", onClick: copy, type: "button" },
    copied ? "✓" : "Copy",
  );
}

/** The place of an object: a link where there is a page for it, text to copy in any case. */
export function Place({ uri, what = "address", short = false }) {
  const address = objectAddress(uri);
  const shown = short ? uri.slice(uri.lastIndexOf("/", uri.length - 2) + 1) : uri;
  const outside = { href: address, rel: "noopener noreferrer nofollow", target: "_blank", title: address };
  return h(
    "span",
    { className: "bfl-place" },
    address === null
      ? h("code", { title: uri }, shown)
      : h("a", outside, h("bdi", null, shown), h("span", { className: "bfl-hidden" }, " (opens a new tab)")),
    h(Copy, { value: uri, what }),
  );
}

/** A titled list of facts; facts that are not known are left out, and so is an empty list. */
function Facts({ title, rows }) {
  const known = rows.filter(([, value]) => value !== null && value !== undefined);
  if (known.length === 0) return null;
  return h(
    "section",
    null,
    h("h3", null, title),
    h(
      "dl",
      null,
      known.map(([name, value]) =>
        h(
          Fragment,
          { key: name },
          h("dt", null, name),
          h("dd", null, typeof value === "string" ? h("bdi", null, value) : value),
        ),
      ),
    ),
  );
}

function yes(flag, words) {
  return flag ? words : null;
}

function GenerationFacts({ preview }) {
  const place = preview.uri && h(Place, { uri: preview.uri });
  const sidecar = preview.sidecarUri && h(Place, { uri: preview.sidecarUri });
  const { submittedAt, readyAt, landedAt } = preview;
  return h(
    "div",
    { className: "bfl-facts" },
    preview.billedTwice &&
      h(
        "p",
        { className: "bfl-warning" },
        "This generation may have been billed twice: the answer to an earlier submit was lost.",
      ),
    h(Facts, {
      title: "Result",
      rows: [
        ["Status", h(Badge, { status: preview.status })],
        ["Stored at", place],
        ["Size", [dimensions(preview), bytes(preview.size)].filter(Boolean).join(", ") || null],
        ["Type", preview.contentType],
        ["Seed", preview.seed],
        ["SHA-256", preview.sha256 && h("code", null, preview.sha256)],
      ],
    }),
    h(Facts, {
      title: "Request",
      rows: [
        ["Prompt", preview.prompt ?? (preview.pairs.length > 0 ? "not recorded" : null)],
        ["Model", preview.model],
        ["Region", preview.region],
        ["Generation id", preview.id && h("code", null, preview.id)],
        ...preview.pairs.map(([name, value]) => [name, h("code", null, value)]),
      ],
    }),
    h(Facts, {
      title: "Times",
      rows: [
        ["Submitted", when(submittedAt)],
        ["Ready", readyAt && [when(readyAt), seconds(submittedAt, readyAt)].filter(Boolean).join(", after ")],
        ["Stored", landedAt && [when(landedAt), seconds(readyAt, landedAt)].filter(Boolean).join(", after another ")],
        ["Age of the signed URL", preview.urlAge === null ? null : `${preview.urlAge.toFixed(1)} s at the download`],
      ],
    }),
    h(Facts, {
      title: "Cost",
      rows: [
        ["Cost", credits(preview.cost)],
        ["Re-attached", yes(preview.reattached, "yes: this attempt found it submitted and paid nothing")],
      ],
    }),
    h(Facts, {
      title: "Sidecar",
      rows: [
        ["Stored at", sidecar],
        ["Provider", preview.version],
      ],
    }),
  );
}

function BatchFacts({ preview }) {
  return h(
    "div",
    { className: "bfl-facts" },
    h(Facts, {
      title: "Batch",
      rows: [
        ["Status", h(Badge, { status: preview.status })],
        ["Items", text(preview.total)],
        ...preview.counts.map(([state, count]) => [state, count]),
        ["Model", preview.model],
        ["Cost", credits(preview.cost)],
        ["Manifest", preview.uri && h(Place, { uri: preview.uri })],
        ["Began", when(preview.submittedAt)],
        [
          "Ended",
          preview.landedAt &&
            [when(preview.landedAt), seconds(preview.submittedAt, preview.landedAt)].filter(Boolean).join(", after "),
        ],
        ["Provider", preview.version],
      ],
    }),
  );
}

function text(count) {
  return count === null ? null : String(count);
}

function Items({ items }) {
  return h(
    "section",
    null,
    h("h3", null, items.length === 1 ? "The last item" : `The last ${items.length} items`),
    h(
      "ul",
      { className: "bfl-items" },
      items.map((item, index) =>
        h(
          "li",
          { key: index },
          h(Picture, { preview: { ...item, kind: "generation", items: [] } }),
          h("strong", null, h("bdi", null, item.name ?? item.id ?? "")),
          item.prompt && h("span", { className: "bfl-clamp", title: item.prompt }, h("bdi", null, item.prompt)),
          h(
            "span",
            { className: "bfl-muted" },
            [item.seed && `seed ${item.seed}`, credits(item.cost)].filter(Boolean).join(" · "),
          ),
          item.uri && h(Place, { short: true, uri: item.uri }),
        ),
      ),
    ),
  );
}

/** Everything that is known of one preview. */
export function Details({ preview }) {
  if (preview.kind === "elsewhere") {
    return h(
      Notice,
      { title: "Kept by the XCom backend" },
      "This Airflow keeps large XComs in object storage, where the web interface does not read them. Raise the backend's ",
      "threshold above 48 KB to see previews here.",
    );
  }
  if (preview.kind === "batch") {
    return h("div", null, h(BatchFacts, { preview }), preview.items.length > 0 && h(Items, { items: preview.items }));
  }
  return h(
    "div",
    { className: "bfl-details" },
    h("div", { className: "bfl-frame" }, h(Picture, { preview })),
    h(GenerationFacts, { preview }),
  );
}
