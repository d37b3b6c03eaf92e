//! Tests of the revision's decoder: the host's own documents, bad ones and mutated ones.
const std = @import("std");
