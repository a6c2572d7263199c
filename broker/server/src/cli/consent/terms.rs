//! What a consent is for, on the command line.

use clap::ValueEnum;
use unefois_consent::Timestamp;
use unefois_proto::fields::wire_instant;
use unefois_proto::v1;

use crate::cli::exchange::{LanguageArg, parse_filter, wire_filters};

/// What a consent is for.
#[derive(Debug, clap::Args)]
pub(super) struct TermsArgs {
    /// For which procedure
    #[arg(long)]
    procedure: String,
    /// For which attribute; may be given several times
    #[arg(long = "attribute", short, value_name = "ATTRIBUTE", required = true)]
    attributes: Vec<String>,
    /// SIRET that may use the data, where it is not yours alone; may be given several times
    #[arg(long = "recipient", value_name = "SIRET")]
    recipients: Vec<String>,
    /// Months that the data may be about: 2026-01 or 2026-01..2026-12
    #[arg(long, value_name = "MONTHS")]
    months: Option<String>,
    /// Version of the notice that the person reads
    #[arg(long, value_name = "VERSION", default_value_t = 1)]
    notice: u32,
    /// Language of the notice
    #[arg(long, value_enum, default_value = "fr")]
    language: LanguageArg,
    /// With which filter a dataset is to be asked: dataset:name=value; may be given several times
    #[arg(long = "filter", value_name = "FILTER", value_parser = parse_filter)]
    filters: Vec<(String, String, String)>,
    /// From when it holds, such as 2026-09-01T00:00:00Z; from now where absent
    #[arg(long, value_name = "TIME")]
    start: Option<Timestamp>,
    /// How many days it holds
    #[arg(long, default_value_t = 90)]
    days: u32,
    /// May be used only once
    #[arg(long, conflicts_with = "times")]
    one_time: bool,
    /// May be used so often in each window of --per
    #[arg(long, value_name = "COUNT", requires = "per")]
    times: Option<u32>,
    /// Length of a window
    #[arg(long, value_enum, value_name = "UNIT", requires = "times")]
    per: Option<UnitArg>,
    /// The data is kept for so many days; without this nothing is kept
    #[arg(long, value_name = "DAYS")]
    store_days: Option<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum UnitArg {
    Hour,
    Day,
    Month,
    Year,
}

impl UnitArg {
    fn on_wire(self) -> i32 {
        match self {
            Self::Hour => v1::TimeUnit::Hour as i32,
            Self::Day => v1::TimeUnit::Day as i32,
            Self::Month => v1::TimeUnit::Month as i32,
            Self::Year => v1::TimeUnit::Year as i32,
        }
    }
}

/// So many days from now, on the wire.
pub(crate) fn in_days(days: u32) -> Option<prost_types::Timestamp> {
    days_after(crate::init::now(), days)
}

fn days_after(start: Timestamp, days: u32) -> Option<prost_types::Timestamp> {
    let duration = std::time::Duration::from_secs(u64::from(days) * 24 * 60 * 60);
    Some(wire_instant(start.plus(duration)))
}

impl TermsArgs {
    pub(super) fn on_wire(&self) -> v1::ConsentTerms {
        let frequency = self.times.zip(self.per).map(|(times, per)| v1::Frequency { times, per: per.on_wire() });
        let use_ = match (self.one_time, &frequency) {
            (true, _) => v1::ConsentUse::OneTime,
            (false, Some(_)) => v1::ConsentUse::Periodic,
            (false, None) => v1::ConsentUse::Repeated,
        };
        let months = self.months.as_ref().map(|months| {
            let (from, to) = months.split_once("..").unwrap_or((months, months));
            v1::DataPeriod { from: from.to_owned(), to: to.to_owned() }
        });
        let storage = self.store_days.map(|value| v1::DataStorage { value, unit: v1::TimeUnit::Day as i32 });
        v1::ConsentTerms {
            procedure: self.procedure.clone(),
            attributes: self.attributes.clone(),
            recipients: self.recipients.clone(),
            filters: wire_filters(&self.filters),
            period: months,
            notice_version: self.notice,
            language: self.language.on_wire(),
            not_before: self.start.map(wire_instant),
            expires_at: days_after(self.start.unwrap_or_else(crate::init::now), self.days),
            r#use: use_ as i32,
            frequency,
            store: storage.is_some(),
            storage,
        }
    }
}
