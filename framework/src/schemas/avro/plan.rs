//! A schema, laid out so that a datum can be followed through it.

use apache_avro::Schema;
use apache_avro::schema::{DecimalSchema, InnerDecimalSchema, Name, RecordField, UuidSchema};
use serde_json::{Value, json};
use std::collections::HashMap;

/// All types of a schema, the whole one first.
#[derive(Debug, PartialEq)]
pub(crate) struct Plan(Vec<Node>);

/// The place of a type in its [`Plan`].
pub(super) type Place = usize;

/// One type of a schema.
#[derive(Debug, PartialEq)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) logical: Option<Logical>,
    /// The full name, of what has one.
    pub(super) name: Option<Box<str>>,
    /// Full names too.
    pub(super) aliases: Vec<Box<str>>,
    /// Whether each value of it takes a byte or more.
    pub(super) takes_room: bool,
}

/// How the values of a type are written.
#[derive(Debug, PartialEq)]
pub(super) enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Symbols),
    Array(Place),
    Map(Place),
    Union(Box<[Place]>),
    Record(Box<[Field]>),
}

/// What the numbers, bytes or texts of a type stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logical {
    Decimal {
        scale: usize,
    },
    /// Each value has a scale of its own.
    BigDecimal,
    Uuid,
    Duration,
    Date,
    Time(Unit),
    /// An instant.
    Timestamp(Unit),
    /// A date and a time of day, of no time zone.
    LocalTimestamp(Unit),
}

/// So many of them are a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Millis,
    Micros,
    Nanos,
}

#[derive(Debug, PartialEq)]
pub(super) struct Symbols {
    pub(super) names: Box<[Box<str>]>,
    /// What a reader takes in place of one that it does not know.
    pub(super) default: Option<usize>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Field {
    pub(super) name: Box<str>,
    pub(super) place: Place,
    pub(super) aliases: Vec<Box<str>>,
    pub(super) default: Option<Value>,
}

impl Plan {
    pub(super) const ROOT: Place = 0;

    /// Lays out a schema that is whole: each name that it uses it defines.
    pub(super) fn of(schema: &Schema) -> Result<Self, String> {
        let mut builder = Builder::default();
        builder.add(schema)?;
        let mut plan = Self(builder.nodes);
        plan.find_room();
        Ok(plan)
    }

    #[inline]
    pub(super) fn node(&self, place: Place) -> &Node {
        &self.0[place]
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.0
    }

    /// Whether the whole is bytes.
    #[inline]
    pub(super) fn is_bytes(&self) -> bool {
        matches!(self.0[Self::ROOT].kind, Kind::Bytes)
    }

    /// Whether the schema itself has this name for something: then it is no data.
    pub(super) fn has_name(&self, name: &str) -> bool {
        self.0.iter().any(|node| match &node.kind {
            Kind::Record(fields) => fields.iter().any(|field| &*field.name == name),
            _ => false,
        } || node.branch_names().any(|known| known == name))
    }

    /// Repeats until nothing changes: a record may be in itself by way of others.
    fn find_room(&mut self) {
        loop {
            let takes_room = |plan: &Self, node: &Node| match &node.kind {
                Kind::Null => false,
                Kind::Fixed(size) => *size > 0,
                Kind::Record(fields) => fields.iter().any(|field| plan.0[field.place].takes_room),
                _ => true,
            };
            let now: Vec<bool> = self.0.iter().map(|node| takes_room(self, node)).collect();
            if self.0.iter().zip(&now).all(|(node, now)| node.takes_room == *now) {
                return;
            }
            self.0.iter_mut().zip(now).for_each(|(node, now)| node.takes_room = now);
        }
    }

    /// The schema of how the bytes lie: no logical types, and names that any parser takes.
    pub(super) fn layout(&self) -> Value {
        self.layout_of(Self::ROOT, &mut vec![false; self.0.len()])
    }

    fn layout_of(&self, place: Place, defined: &mut [bool]) -> Value {
        let node = &self.0[place];
        if matches!(node.kind, Kind::Record(_) | Kind::Enum(_) | Kind::Fixed(_))
            && std::mem::replace(&mut defined[place], true)
        {
            return json!(format!("T{place}"));
        }
        let mut inner = |place: Place| self.layout_of(place, defined);
        match &node.kind {
            Kind::Null => json!("null"),
            Kind::Boolean => json!("boolean"),
            Kind::Int => json!("int"),
            Kind::Long => json!("long"),
            Kind::Float => json!("float"),
            Kind::Double => json!("double"),
            Kind::Bytes => json!("bytes"),
            Kind::String => json!("string"),
            Kind::Fixed(size) => json!({"type": "fixed", "name": format!("T{place}"), "size": size}),
            Kind::Enum(symbols) => {
                let symbols: Vec<_> = (0..symbols.names.len()).map(symbol).collect();
                json!({"type": "enum", "name": format!("T{place}"), "symbols": symbols})
            }
            Kind::Array(items) => json!({"type": "array", "items": inner(*items)}),
            Kind::Map(values) => json!({"type": "map", "values": inner(*values)}),
            Kind::Union(branches) => branches.iter().map(|branch| inner(*branch)).collect(),
            Kind::Record(fields) => {
                let fields: Vec<_> = (0..)
                    .zip(fields)
                    .map(|(number, field)| json!({"name": field_name(number), "type": inner(field.place)}))
                    .collect();
                json!({"type": "record", "name": format!("T{place}"), "fields": fields})
            }
        }
    }
}

/// What [`Plan::layout`] calls the symbol of this number.
pub(super) fn symbol(number: usize) -> String {
    format!("s{number}")
}

/// What [`Plan::layout`] calls the field of this number.
pub(super) fn field_name(number: usize) -> String {
    format!("f{number}")
}

impl Node {
    pub(super) const fn new(kind: Kind, logical: Option<Logical>) -> Self {
        Self { kind, logical, name: None, aliases: Vec::new(), takes_room: true }
    }

    /// What a variant of a Rust enum may be called that takes this branch of a union: the full
    /// name, the name alone, or what kind of type it is.
    pub(super) fn branch_names(&self) -> impl Iterator<Item = &str> {
        let full = self.name.as_deref();
        let short = full.map(|name| name.rsplit('.').next().unwrap_or(name));
        let kind = self.kind_name();
        full.into_iter().chain(short).chain([kind])
    }

    /// Whether it has no other values in it.
    #[inline]
    pub(super) fn is_simple(&self) -> bool {
        !matches!(self.kind, Kind::Array(_) | Kind::Map(_) | Kind::Union(_) | Kind::Record(_))
    }

    fn kind_name(&self) -> &'static str {
        use Unit::{Micros, Millis, Nanos};
        match (self.logical, &self.kind) {
            (Some(Logical::Decimal { .. }), _) => "Decimal",
            (Some(Logical::BigDecimal), _) => "BigDecimal",
            (Some(Logical::Uuid), _) => "Uuid",
            (Some(Logical::Duration), _) => "Duration",
            (Some(Logical::Date), _) => "Date",
            (Some(Logical::Time(Millis)), _) => "TimeMillis",
            (Some(Logical::Time(_)), _) => "TimeMicros",
            (Some(Logical::Timestamp(Millis)), _) => "TimestampMillis",
            (Some(Logical::Timestamp(Micros)), _) => "TimestampMicros",
            (Some(Logical::Timestamp(Nanos)), _) => "TimestampNanos",
            (Some(Logical::LocalTimestamp(Millis)), _) => "LocalTimestampMillis",
            (Some(Logical::LocalTimestamp(Micros)), _) => "LocalTimestampMicros",
            (Some(Logical::LocalTimestamp(Nanos)), _) => "LocalTimestampNanos",
            (None, Kind::Null) => "Null",
            (None, Kind::Boolean) => "Boolean",
            (None, Kind::Int) => "Int",
            (None, Kind::Long) => "Long",
            (None, Kind::Float) => "Float",
            (None, Kind::Double) => "Double",
            (None, Kind::Bytes) => "Bytes",
            (None, Kind::String) => "String",
            (None, Kind::Fixed(_)) => "Fixed",
            (None, Kind::Enum(_)) => "Enum",
            (None, Kind::Array(_)) => "Array",
            (None, Kind::Map(_)) => "Map",
            (None, Kind::Union(_)) => "Union",
            (None, Kind::Record(_)) => "Record",
        }
    }
}

#[derive(Default)]
struct Builder {
    nodes: Vec<Node>,
    named: HashMap<String, Place>,
}

impl Builder {
    fn add(&mut self, schema: &Schema) -> Result<Place, String> {
        if let Schema::Ref { name } = schema {
            let known = self.named.get(&name.fullname(None)).copied();
            return known
                .ok_or_else(|| format!("it uses `{}`, which is defined nowhere", name.fullname(None)));
        }
        let place = self.nodes.len();
        self.nodes.push(Node::new(Kind::Null, None));
        if let Some(name) = schema.name() {
            self.name(place, name, schema.aliases().into_iter().flatten());
        }
        let (kind, logical) = self.kind_of(schema)?;
        let node = &mut self.nodes[place];
        (node.kind, node.logical) = (kind, logical);
        Ok(place)
    }

    fn name<'a>(
        &mut self,
        place: Place,
        name: &Name,
        aliases: impl Iterator<Item = &'a apache_avro::schema::Alias>,
    ) {
        self.named.insert(name.fullname(None), place);
        let aliases: Vec<_> = aliases.map(|alias| alias.fullname(name.namespace())).collect();
        for alias in &aliases {
            self.named.entry(alias.clone()).or_insert(place);
        }
        let node = &mut self.nodes[place];
        node.name = Some(super::text::unescaped(&name.fullname(None)).into());
        node.aliases = aliases.iter().map(|alias| super::text::unescaped(alias).into()).collect();
    }

    fn kind_of(&mut self, schema: &Schema) -> Result<(Kind, Option<Logical>), String> {
        use Unit::{Micros, Millis, Nanos};
        Ok(match schema {
            Schema::Null => (Kind::Null, None),
            Schema::Boolean => (Kind::Boolean, None),
            Schema::Int => (Kind::Int, None),
            Schema::Long => (Kind::Long, None),
            Schema::Float => (Kind::Float, None),
            Schema::Double => (Kind::Double, None),
            Schema::Bytes | Schema::Uuid(UuidSchema::Bytes) => (Kind::Bytes, None),
            Schema::String => (Kind::String, None),
            Schema::Array(array) => (Kind::Array(self.add(&array.items)?), None),
            Schema::Map(map) => (Kind::Map(self.add(&map.types)?), None),
            Schema::Union(union) => {
                let branches = union.variants().iter().map(|branch| self.add(branch));
                (Kind::Union(branches.collect::<Result<_, _>>()?), None)
            }
            Schema::Record(record) => {
                let fields = record.fields.iter().map(|field| self.field(field));
                (Kind::Record(fields.collect::<Result<_, _>>()?), None)
            }
            Schema::Enum(schema) => {
                let names = schema.symbols.iter().map(|name| super::text::unescaped(name).into()).collect();
                let default = schema.default.as_ref();
                let default =
                    default.and_then(|default| schema.symbols.iter().position(|symbol| symbol == default));
                (Kind::Enum(Symbols { names, default }), None)
            }
            Schema::Fixed(fixed) => (Kind::Fixed(fixed.size), None),
            Schema::Decimal(DecimalSchema { scale, inner, .. }) => {
                let kind = match inner {
                    InnerDecimalSchema::Bytes => Kind::Bytes,
                    InnerDecimalSchema::Fixed(fixed) => Kind::Fixed(fixed.size),
                };
                (kind, Some(Logical::Decimal { scale: *scale }))
            }
            Schema::BigDecimal => (Kind::Bytes, Some(Logical::BigDecimal)),
            Schema::Uuid(UuidSchema::String) => (Kind::String, Some(Logical::Uuid)),
            Schema::Uuid(UuidSchema::Fixed(fixed)) => (Kind::Fixed(fixed.size), Some(Logical::Uuid)),
            Schema::Duration(fixed) => (Kind::Fixed(fixed.size), Some(Logical::Duration)),
            Schema::Date => (Kind::Int, Some(Logical::Date)),
            Schema::TimeMillis => (Kind::Int, Some(Logical::Time(Millis))),
            Schema::TimeMicros => (Kind::Long, Some(Logical::Time(Micros))),
            Schema::TimestampMillis => (Kind::Long, Some(Logical::Timestamp(Millis))),
            Schema::TimestampMicros => (Kind::Long, Some(Logical::Timestamp(Micros))),
            Schema::TimestampNanos => (Kind::Long, Some(Logical::Timestamp(Nanos))),
            Schema::LocalTimestampMillis => (Kind::Long, Some(Logical::LocalTimestamp(Millis))),
            Schema::LocalTimestampMicros => (Kind::Long, Some(Logical::LocalTimestamp(Micros))),
            Schema::LocalTimestampNanos => (Kind::Long, Some(Logical::LocalTimestamp(Nanos))),
            Schema::Ref { .. } => return Err("it is a name only".to_owned()),
        })
    }

    fn field(&mut self, field: &RecordField) -> Result<Field, String> {
        Ok(Field {
            name: super::text::unescaped(&field.name).into(),
            place: self.add(&field.schema)?,
            aliases: field.aliases.iter().map(|alias| alias.as_str().into()).collect(),
            default: field.default.clone(),
        })
    }
}
