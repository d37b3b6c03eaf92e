//! Tests of problem bodies: always one valid JSON object, whatever the texts and the room.
const std = @import("std");
