//! How commands write what they found: the same option everywhere.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::text::visible_json;

/// How something is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One object a line.
    Json,
    /// For people.
    Table,
}

/// The option of commands that list something.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Output {
    /// A table on a terminal, JSON lines otherwise.
    #[arg(id = "output", long = "output", short = 'o', visible_alias = "format", value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
}

impl Output {
    /// What was asked for, or what suits where it goes.
    #[must_use]
    pub fn format(self) -> Format {
        self.format.unwrap_or(if std::io::stdout().is_terminal() { Format::Table } else { Format::Json })
    }
}

/// How commands answer that say one thing: in words, unless somebody asks for JSON.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Words {
    /// In words, or as JSON.
    #[arg(
        id = "output",
        long = "output",
        short = 'o',
        visible_alias = "format",
        value_enum,
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub format: WordsFormat,
}

/// How one thing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum WordsFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

impl Words {
    /// Whether it is to be JSON.
    #[must_use]
    pub fn is_json(self) -> bool {
        self.format == WordsFormat::Json
    }
}

/// Writes one object as a line that hides nothing in a terminal.
pub fn json_line(out: &mut impl Write, value: &impl Serialize) -> std::io::Result<()> {
    writeln!(out, "{}", visible_json(serde_json::to_string(value)?))
}
