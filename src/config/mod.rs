//! Configuration: YAML, environment and flags into validated values.
