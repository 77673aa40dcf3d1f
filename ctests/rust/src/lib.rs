//! Tests of libxcopy through its C surface: see `tests/`.
