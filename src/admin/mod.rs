//! The admin listener: metrics, health, API.
