//! Envelopes: what of a wrapper, of a provider's records and of a line's beginning belongs to the event inside.

use std::rc::Rc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::{cluster_name, cut, google, packed};
use super::shape::{Head, NESTING_MAX, Told};
use super::{Framer, Place, Reason, Refusal, Taken, first_line_is_whole, looks_like_event};
use crate::clock::Timestamp;

/// What comes before an event on its line: a time, a node's name, what a container runtime or syslog writes.
const PREFIX_MAX: usize = 256;

/// Numbers below this are seconds since the epoch, others milliseconds: both tell of the years from 1973 to 5138.
const MILLIS_MIN: f64 = 1e11;
/// The year 5138 in microseconds.
const MICROS_MAX: f64 = 1e17;

/// What EKS names log groups, before and after the cluster.
const EKS_GROUP: (&str, &str) = ("/aws/eks/", "/cluster");

/// What the names of EKS's streams of audit events begin with; the other streams of a group hold other logs.
const EKS_AUDIT_STREAM: &str = "kube-apiserver-audit";

/// Azure's categories that hold audit events.
const AZURE_CATEGORIES: [&str; 2] = ["kube-audit", "kube-audit-admin"];

/// OpenShift's sources of logs that hold none.
const OPENSHIFT_OTHERS: [&str; 4] = ["auditd", "ovn", "container", "node"];

/// What the envelopes around a piece say of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Context {
    /// The cluster that it is from.
    pub(super) cluster: Option<Rc<str>>,
    /// Which record of its envelope it is.
    pub(super) record: Option<usize>,
    /// When it was logged: what an event that is cut off has as its time.
    time: Option<Timestamp>,
    /// It is about something else, so that it is no mistake if there is no event in it.
    pub(super) is_other: bool,
}

impl Framer<'_> {
    /// Takes up what an object says of everything inside; returns what was known before.
    pub(super) fn enter(&mut self, head: &Head<'_>) -> Context {
        let outer = self.context.clone();
        let inner = &mut self.context;
        if let Some(time) = head.told(Told::Time).and_then(time) {
            inner.time = Some(time);
        }
        if let Some(cluster) = cluster(head) {
            inner.cluster = Some(cluster.into());
        }
        if let Some(is_other) = is_other(head) {
            inner.is_other = is_other;
        }
        outer
    }

    /// An object that is no event and no list of them: a wrapper, or an envelope.
    pub(super) fn open(&mut self, bytes: &[u8], head: &Head<'_>, place: Place, nesting: u32) {
        self.declared |= head.is_providers();
        if head.told(Told::ProtoPayload).is_some() {
            return self.log_entry(bytes, place);
        }
        if let Some(inner) = head.unwrap(nesting) {
            return self.document(inner.as_bytes(), place, nesting + 1);
        }
        if nesting < NESTING_MAX {
            if let Some(records) = head.records() {
                return self.records(&records, place, nesting);
            }
            if let Some(data) = head.told(Told::Data).filter(|data| packed::may_be(data)) {
                return self.unpack(bytes, data, place, nesting);
            }
        }
        let is_record = head.is_providers() || self.context.record.is_some();
        let only = if is_record { "the record holds no audit event" } else { "kind must be Event or EventList" };
        self.bad(bytes, place, Reason::Kind, format!("{only} of {}", super::API_VERSION));
    }

    /// The records of an envelope, each of which is looked at by itself.
    fn records(&mut self, records: &[&RawValue], place: Place, nesting: u32) {
        // A provider that has nothing to tell is no mistake.
        self.declared |= records.is_empty();
        let outer = self.context.record;
        for (number, record) in records.iter().enumerate() {
            self.context.record = Some(number);
            self.document(record.get().as_bytes(), place, nesting + 1);
        }
        self.context.record = outer;
    }

    /// A record in base64, packed or not.
    fn unpack(&mut self, bytes: &[u8], data: &RawValue, place: Place, nesting: u32) {
        match packed::unpack(data, &mut self.unpacked_left) {
            Ok(unpacked) => self.packed(unpacked.trim_ascii(), place, nesting + 1),
            Err((reason, detail)) => self.bad(bytes, place, reason, detail),
        }
    }

    /// What was packed: lines, of which a bad one leaves the others, or texts one after the other.
    fn packed(&mut self, bytes: &[u8], place: Place, nesting: u32) {
        if !first_line_is_whole(bytes) {
            return self.several(bytes, place, nesting);
        }
        for line in bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
            self.several(line, place, nesting);
        }
    }

    /// An entry of Google's audit logs, of which those of Kubernetes are mapped to audit events.
    fn log_entry(&mut self, bytes: &[u8], place: Place) {
        match google::audit_event(bytes) {
            Ok(Some(mapped)) => {
                let outer = self.context.cluster.clone();
                if let Some(cluster) = mapped.cluster.as_deref().and_then(cluster_name) {
                    self.context.cluster = Some(cluster.into());
                }
                self.event(mapped.event.as_bytes(), place);
                self.context.cluster = outer;
            }
            Ok(None) => self.skip(),
            Err((reason, detail)) => self.bad(bytes, place, reason, detail),
        }
    }

    /// Counts something that is no audit event and need not be one.
    pub(super) fn skip(&mut self) {
        self.declared = true;
        self.found.skipped += 1;
    }

    /// Hands out what is left of an event that is cut off, if it is known when it was.
    pub(super) fn what_is_left(&mut self, bytes: &[u8], refusal: Refusal) -> Taken {
        let Some(left) = self.context.time.and_then(|time| cut::complete(bytes, time)) else { return Err(refusal) };
        let taken = self.try_event(left.as_bytes());
        self.found.truncated += u64::from(taken.is_ok());
        taken.map_err(|(_, detail)| (Reason::Truncated, format!("cut off, and in what is left {detail}")))
    }

    /// Looks at a line that something stands before: true if that was it.
    pub(super) fn after_prefix(&mut self, bytes: &[u8], place: Place, nesting: u32) -> bool {
        let Some((prefix, rest)) = split_prefix(bytes) else { return false };
        if !looks_like_event(rest) && serde_json::from_slice::<&RawValue>(rest).is_err() {
            return false;
        }
        let outer = self.context.time;
        self.context.time = time_in(prefix).or(outer);
        self.document(rest, place, nesting);
        self.context.time = outer;
        true
    }
}

/// What stands before the object on a line, and the object.
fn split_prefix(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let at = memchr::memchr(b'{', &bytes[..bytes.len().min(PREFIX_MAX)])?;
    let (prefix, rest) = bytes.split_at(at);
    let prefix = str::from_utf8(prefix).ok()?;
    let begins = prefix.starts_with(|c: char| !matches!(c, '[' | '"'));
    (begins && prefix.ends_with(|c: char| c.is_whitespace() || c == ':')).then_some((prefix, rest))
}

/// The first word that is a time.
fn time_in(prefix: &str) -> Option<Timestamp> {
    prefix.split_ascii_whitespace().find_map(Timestamp::parse)
}

/// A time as text, or as a number since the epoch: milliseconds as CloudWatch has them, or seconds as Fluent Bit has them.
fn time(value: &RawValue) -> Option<Timestamp> {
    if let Ok(number) = value.get().parse::<f64>() {
        let micros = if number < MILLIS_MIN { number * 1e6 } else { number * 1e3 };
        // What is no time anybody has is none.
        #[expect(clippy::cast_possible_truncation, reason = "whole microseconds, of which a number has 52 bits")]
        return (0.0..MICROS_MAX).contains(&micros).then_some(Timestamp(micros as i64));
    }
    let text: String = serde_json::from_str(value.get()).ok()?;
    // CloudWatch Logs Insights writes times in UTC without saying so.
    Timestamp::parse(&text).or_else(|| Timestamp::parse(&format!("{}Z", text.replacen(' ', "T", 1))))
}

/// The cluster that an envelope names.
fn cluster(head: &Head<'_>) -> Option<String> {
    let name = eks_cluster(head).or_else(|| aks_cluster(head)).or_else(|| openshift_cluster(head))?;
    cluster_name(&name).is_some().then_some(name)
}

fn eks_cluster(head: &Head<'_>) -> Option<String> {
    let group = head.told_text(Told::Group)?;
    let (_, rest) = group.split_once(EKS_GROUP.0)?;
    Some(rest.strip_suffix(EKS_GROUP.1)?.to_owned())
}

fn aks_cluster(head: &Head<'_>) -> Option<String> {
    const KIND: &str = "/managedclusters/";
    let id = head.told_text(Told::ResourceId)?;
    let at = id.to_ascii_lowercase().rfind(KIND)? + KIND.len();
    let name = id[at..].split('/').next()?;
    // Azure writes the whole id in capitals, which names seldom have.
    let shouted = !name.contains(|c: char| c.is_ascii_lowercase());
    Some(if shouted { name.to_ascii_lowercase() } else { name.to_owned() })
}

fn openshift_cluster(head: &Head<'_>) -> Option<String> {
    #[derive(Deserialize)]
    struct Added {
        cluster_id: String,
    }
    let added: Added = serde_json::from_str(head.told(Told::OpenShift)?.get()).ok()?;
    Some(added.cluster_id)
}

/// Whether an envelope says that it is about something else than audit events; `None` if it says nothing about that.
fn is_other(head: &Head<'_>) -> Option<bool> {
    if let Some(kind) = head.told_text(Told::MessageType)
        && kind == "CONTROL_MESSAGE"
    {
        return Some(true);
    }
    if let Some(category) = head.told_text(Told::Category)
        && head.told(Told::ResourceId).is_some()
    {
        return Some(!AZURE_CATEGORIES.iter().any(|known| category.eq_ignore_ascii_case(known)));
    }
    if head.told(Told::LogName).is_some() && head.is_providers() {
        return Some(true);
    }
    if let Some(source) = head.told_text(Told::LogSource)
        && OPENSHIFT_OTHERS.contains(&&*source)
    {
        return Some(true);
    }
    let stream = head.told_text(Told::Stream)?;
    Some(!stream.starts_with(EKS_AUDIT_STREAM))
}
