/** Who is here now? The Herenow presence client for browsers and Node. */
export { ActivityMonitor } from "./activity-monitor.js";
export type { ActivityMonitorOptions } from "./activity-monitor.js";
export { HerenowClient } from "./client.js";
export type { ClientEvents, ClientOptions, StateEvent } from "./client.js";
export { HerenowError } from "./errors.js";
export type {
  Activity,
  ConnectionState,
  DeviceKind,
  ManualStatus,
  Presence,
  PresenceChange,
  Status,
  StatusOptions,
} from "./types.js";
export { Watch } from "./watch.js";
export type { PresenceListener } from "./watch.js";

// The pure parts, for tests and for those who bring their own transport.
export { attemptAfter, backoffDelay, moveDelay, refusalDelay } from "./backoff.js";
export { closeDuty } from "./codes.js";
export type { Duty } from "./codes.js";
export { clientFrame, pages, parseServerFrame } from "./frames.js";
export type { ClientFrame, ServerFrame, Welcome } from "./frames.js";
export { Connection } from "./machine.js";
export type { Output, TokenReason } from "./machine.js";
export { PresenceMap } from "./presence-map.js";
