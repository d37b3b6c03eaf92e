//! Exported functions of the data plane: check, call, map error to status; no logic.

export fn zc_abi_version() u32 {
    return 1;
}
