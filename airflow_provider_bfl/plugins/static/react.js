// SPDX-License-Identifier: Apache-2.0
// Airflow hands its own React to plugins; there is no other copy and no build step.

export const {
  Component,
  createElement: h,
  Fragment,
  useCallback,
  useEffect,
  useId,
  useMemo,
  useRef,
  useState,
} = globalThis.React;
export const { Link, useSearchParams } = globalThis.ReactRouterDOM;
