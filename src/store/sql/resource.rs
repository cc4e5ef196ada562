//! Owners, systems, destinations and policies: texts, and rows to types and back.

use super::super::Result;
use super::{Op, Row, Value, statements};
use crate::domain::resource::Resource;

statements! {
    BY_NAME = "select id, name, version, labels, spec, approved from resources where kind = $kind and name = $name";
    BY_KIND = "select id, name, version, labels, spec, approved from resources where kind = $kind order by name";
    VERSION_BY_NAME = "select version from resources where kind = $kind and name = $name";
    PUT = "insert into resources (id, kind, name, version, labels, spec, approved) \
        values ($id, $kind, $name, $version, $labels, $spec, $approved) \
        on conflict (id) do update set name = excluded.name, version = excluded.version, labels = excluded.labels, \
        spec = excluded.spec, approved = excluded.approved";
}

pub(crate) fn put(resource: &Resource) -> Result<Op> {
    let approved = match &resource.approved {
        Some(approval) => Value::json("writing an approval", approval)?,
        None => Value::Null,
    };
    Ok(Op::Do(PUT.with([
        ("id", Value::shown(&resource.id)),
        ("kind", Value::Name(resource.spec.kind().name())),
        ("name", resource.name.as_str().into()),
        ("version", resource.version.into()),
        ("labels", Value::json("writing labels", &resource.labels)?),
        ("spec", Value::json("writing a resource's spec", &resource.spec)?),
        ("approved", approved),
    ])?))
}

pub(crate) fn read(row: Row) -> Result<Resource> {
    let mut columns = row.read("resource");
    Ok(Resource {
        id: columns.shown()?,
        name: columns.text()?,
        version: columns.number()?,
        labels: columns.json()?,
        spec: columns.json()?,
        approved: columns.maybe_json()?,
    })
}
