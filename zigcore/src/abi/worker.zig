//! Exported functions of the worker's loop: check, call, map error to status; no logic.
