//! What a JSON text is, told by its keys: an event, a list, a wrapper or a provider's envelope.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::super::packed;
use super::{is_audit, looks_like_event};

/// Wrappers inside wrappers that are opened: Kinesis, in a Lambda function's event, has six around each audit event.
pub(super) const NESTING_MAX: u32 = 6;

/// Keys under which log shippers and providers put an event, as object or as text, in the order in which they are tried;
/// `audit` is looked for inside `kubernetes`.
const WRAPPERS: [&str; 15] = [
    "log",
    "message",
    "value",
    "event",
    "kubernetes.audit",
    "kubernetes",
    "audit",
    "structured",
    "@message",
    "properties",
    "log_s",
    "jsonPayload",
    "textPayload",
    "awslogs",
    "kinesis",
];

/// What else an envelope may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// CloudWatch's log group.
    Group,
    /// CloudWatch's log stream.
    Stream,
    /// CloudWatch's kind of payload.
    MessageType,
    /// When it was logged.
    Time,
    /// Azure's kind of log.
    Category,
    /// Azure's cluster.
    ResourceId,
    /// Google's audit log.
    ProtoPayload,
    /// Google's name of a log.
    LogName,
    /// OpenShift's kind of log.
    LogSource,
    /// A list of records.
    Records,
    /// Something packed: base64, and gzip within.
    Data,
    /// What OpenShift's log collector adds.
    OpenShift,
}

impl Told {
    /// What a key tells, whoever spells it so.
    fn of(key: &str) -> Option<Self> {
        Some(match key {
            "logGroup" | "log_group" | "log_group_name" | "@log" => Self::Group,
            "logStream" | "log_stream" | "log_stream_name" | "logStreamName" | "@logStream" => Self::Stream,
            "messageType" => Self::MessageType,
            "timestamp" | "@timestamp" | "time" | "TimeGenerated" => Self::Time,
            "category" | "Category" => Self::Category,
            "resourceId" | "ResourceId" | "_ResourceId" => Self::ResourceId,
            "protoPayload" => Self::ProtoPayload,
            "logName" => Self::LogName,
            "log_source" => Self::LogSource,
            "logEvents" | "records" | "Records" | "entries" | "events" => Self::Records,
            "data" => Self::Data,
            "openshift" => Self::OpenShift,
            _ => return None,
        })
    }
}

/// As many as [`Told`] has.
const TOLD_KINDS: usize = Told::OpenShift as usize + 1;

/// What a JSON text is, without looking deeper than it must.
pub(super) enum Shape<'b> {
    Object(Box<Head<'b>>),
    List(Vec<&'b RawValue>),
    Other(&'static str),
}

/// The keys of an object that tell what it is.
#[derive(Default)]
pub(super) struct Head<'b> {
    pub(super) kind: Option<Cow<'b, str>>,
    pub(super) api_version: Option<Cow<'b, str>>,
    pub(super) items: Option<Vec<&'b RawValue>>,
    /// The values of [`WRAPPERS`].
    wrapped: [Option<&'b RawValue>; WRAPPERS.len()],
    told: [Option<&'b RawValue>; TOLD_KINDS],
    pub(super) audit_id: bool,
}

impl<'b> Head<'b> {
    /// What the first wrapper key holds that holds audit events. A log shipper adds keys of its own, before or after.
    pub(super) fn unwrap(&self, nesting: u32) -> Option<Cow<'b, str>> {
        if nesting >= NESTING_MAX {
            return None;
        }
        let mut texts = self.wrapped.iter().flatten().filter_map(|value| inner_text(value));
        texts.find(|text| holds_audit(text, nesting + 1, false))
    }

    /// Where the value of a key belongs, if it is one that matters.
    fn place_of(&mut self, key: &str) -> Option<&mut Option<&'b RawValue>> {
        if let Some(wrapper) = WRAPPERS.iter().position(|wrapper| *wrapper == key) {
            return self.wrapped.get_mut(wrapper);
        }
        self.told.get_mut(Told::of(key)? as usize)
    }

    /// What it says of something, as it is written.
    pub(super) fn told(&self, what: Told) -> Option<&'b RawValue> {
        self.told[what as usize]
    }

    /// What it says of something, if that is text.
    pub(super) fn told_text(&self, what: Told) -> Option<Cow<'b, str>> {
        self.told(what).and_then(text)
    }

    /// The records of an envelope that has several.
    pub(super) fn records(&self) -> Option<Vec<&'b RawValue>> {
        let list = self.told(Told::Records).filter(|list| list.get().starts_with('['))?;
        serde_json::from_str(list.get()).ok()
    }

    /// Whether it is what one of the providers makes, whatever is in it.
    pub(super) fn is_providers(&self) -> bool {
        let has = |what| self.told(what).is_some();
        has(Told::ProtoPayload)
            || has(Told::MessageType) && has(Told::Records)
            || has(Told::Group) && has(Told::Stream)
            || has(Told::Category) && has(Told::ResourceId)
            || self.told_text(Told::LogName).is_some_and(|name| name.contains("/logs/"))
    }

    /// Whether there are audit events in it, or in something that it wraps, or whether a provider made it.
    fn holds_audit(&self, nesting: u32) -> bool {
        self.is_providers()
            || self.unwrap(nesting).is_some()
            || self.told(Told::Data).is_some_and(packed::may_be)
            || nesting < NESTING_MAX
                && self
                    .records()
                    .is_some_and(|list| list.iter().any(|item| holds_audit(item.get(), nesting + 1, false)))
    }
}

/// The JSON text in a wrapper: an object or list as it is, or printed into a string.
fn inner_text(value: &RawValue) -> Option<Cow<'_, str>> {
    let text = value.get();
    let text = match text.as_bytes().first()? {
        b'{' | b'[' => Cow::Borrowed(text),
        b'"' => Cow::Owned(serde_json::from_str::<String>(text).ok()?.trim_ascii().to_owned()),
        _ => return None,
    };
    text.starts_with(['{', '[']).then_some(text)
}

/// Whether a text is an audit event or a list of them, or wraps one.
fn holds_audit(text: &str, nesting: u32, in_list: bool) -> bool {
    if looks_like_event(text.as_bytes()) {
        return true;
    }
    match serde_json::from_str::<Shape<'_>>(text) {
        Ok(Shape::List(items)) => {
            nesting < NESTING_MAX && items.iter().any(|item| holds_audit(item.get(), nesting + 1, true))
        }
        Ok(Shape::Object(head)) => match (head.kind.as_deref(), head.api_version.as_deref()) {
            (Some("Event"), None) => head.audit_id,
            (Some("Event" | "EventList"), version) => is_audit(version),
            (None, None) if head.audit_id && in_list => true,
            _ => head.holds_audit(nesting),
        },
        Ok(Shape::Other(_)) | Err(_) => false,
    }
}

impl<'de> Deserialize<'de> for Shape<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an audit event or a list of them")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut head = Box::<Head<'_>>::default();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "kind" => head.kind = text(map.next_value()?),
                "apiVersion" => head.api_version = text(map.next_value()?),
                "items" => head.items = map.next_value::<MaybeList<'de>>()?.0,
                "auditID" => {
                    head.audit_id = true;
                    map.next_value::<IgnoredAny>()?;
                }
                key => match head.place_of(key) {
                    Some(place) => *place = Some(map.next_value()?),
                    None => {
                        map.next_value::<IgnoredAny>()?;
                    }
                },
            }
        }
        Ok(Shape::Object(head))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Shape::List(items))
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Shape::Other("a string"))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Shape::Other("a boolean"))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Shape::Other("a number"))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Shape::Other("a number"))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Shape::Other("a number"))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Shape::Other("null"))
    }
}

fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str(value.get()).ok()
}

/// The items of an array, or nothing if it is something else. Go writes an empty list as null, too.
struct MaybeList<'b>(Option<Vec<&'b RawValue>>);

impl<'de> Deserialize<'de> for MaybeList<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor)
    }
}

/// Does not look into anything but an array's items, so that lists within lists cost no stack.
struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = MaybeList<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(MaybeList(Some(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(MaybeList(None))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(MaybeList(Some(Vec::new())))
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(MaybeList(None))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(MaybeList(None))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(MaybeList(None))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(MaybeList(None))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(MaybeList(None))
    }
}
