// SPDX-License-Identifier: Apache-2.0
// Which addresses become links. Everything else is text to copy.

const BUCKET = /^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$/;
const OBJECT = /^(s3|gs):\/\/([^/?#@\s]+)\/([^?#]+)$/;

function consoleAddress(scheme, bucket, key) {
  if (scheme === "s3") {
    const query = new URLSearchParams({ prefix: key });
    return `https://s3.console.aws.amazon.com/s3/object/${bucket}?${query}`;
  }
  const path = key.split("/").map(encodeURIComponent).join("/");
  return `https://console.cloud.google.com/storage/browser/_details/${bucket}/${path}`;
}

/** Return the address a stored object can be looked at, or null. */
export function objectAddress(uri) {
  const stored = OBJECT.exec(uri ?? "");
  if (stored) {
    const [, scheme, bucket, key] = stored;
    return BUCKET.test(bucket) ? consoleAddress(scheme, bucket, key) : null;
  }
  if (!/^https?:\/\//i.test(uri ?? "")) return null;
  try {
    const address = new URL(uri);
    // A name before the host makes one host look like another; a query may be a signature.
    return address.username || address.password ? null : address.origin + address.pathname;
  } catch {
    return null;
  }
}

/** Return the page of a task instance, below Airflow's own address. */
export function taskPage({ dagId, runId, taskId, mapIndex }) {
  const [dag, run, task] = [dagId, runId, taskId].map(encodeURIComponent);
  return `/dags/${dag}/runs/${run}/tasks/${task}${mapIndex >= 0 ? `/mapped/${mapIndex}` : ""}`;
}
