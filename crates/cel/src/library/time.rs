//! The fields of timestamps, in UTC or in a named zone, and of durations.

use super::Library;
use crate::{
    error::{EvalError, Fallible},
    machine::Machine,
    profile::Profile,
    time::{Civil, Timestamp},
    types::Type,
    value::Value,
};

/// Declares the fields of time.
pub(crate) fn declare(library: &mut Library, profile: &Profile) {
    field(library, "getFullYear", ["timestamp_to_year", "timestamp_to_year_with_tz"], |_, args| {
        part(args, |civil| civil.year)
    });
    field(library, "getMonth", ["timestamp_to_month", "timestamp_to_month_with_tz"], |_, args| {
        part(args, |civil| civil.month - 1)
    });
    field(
        library,
        "getDayOfYear",
        ["timestamp_to_day_of_year", "timestamp_to_day_of_year_with_tz"],
        |_, args| part(args, |civil| civil.day_of_year),
    );
    field(
        library,
        "getDayOfMonth",
        ["timestamp_to_day_of_month", "timestamp_to_day_of_month_with_tz"],
        |_, args| part(args, |civil| civil.day - 1),
    );
    field(
        library,
        "getDate",
        ["timestamp_to_day_of_month_1_based", "timestamp_to_day_of_month_1_based_with_tz"],
        |_, args| part(args, |civil| civil.day),
    );
    field(
        library,
        "getDayOfWeek",
        ["timestamp_to_day_of_week", "timestamp_to_day_of_week_with_tz"],
        |_, args| part(args, |civil| civil.weekday),
    );
    field(library, "getHours", ["timestamp_to_hours", "timestamp_to_hours_with_tz"], hours);
    library.member("getHours", "duration_to_hours", [Type::Duration], Type::Int, hours);
    field(library, "getMinutes", ["timestamp_to_minutes", "timestamp_to_minutes_with_tz"], minutes);
    library.member("getMinutes", "duration_to_minutes", [Type::Duration], Type::Int, minutes);
    field(library, "getSeconds", ["timestamp_to_seconds", "timestamp_to_seconds_tz"], seconds);
    library.member("getSeconds", "duration_to_seconds", [Type::Duration], Type::Int, seconds);
    let milliseconds = if profile.millisecond_part { milliseconds_past } else { milliseconds_all };
    field(
        library,
        "getMilliseconds",
        ["timestamp_to_milliseconds", "timestamp_to_milliseconds_with_tz"],
        milliseconds,
    );
    library.member(
        "getMilliseconds",
        "duration_to_milliseconds",
        [Type::Duration],
        Type::Int,
        milliseconds,
    );
}

fn field(library: &mut Library, name: &'static str, ids: [&'static str; 2], run: super::Run) {
    let [plain, in_zone] = ids;
    library.member(name, plain, [Type::Timestamp], Type::Int, run);
    library.member(name, in_zone, [Type::Timestamp, Type::String], Type::Int, run);
}

fn civil_of(time: Timestamp, zone: Option<&Value<'_>>) -> Fallible<Civil> {
    let zone = match zone {
        None => None,
        Some(Value::String(zone)) => Some(zone.as_str()),
        Some(_) => return Err(EvalError::no_overload()),
    };
    time.civil(zone).map_err(EvalError::Failed)
}

fn part<'a>(args: &[Value<'a>], of: fn(&Civil) -> i64) -> Fallible<Value<'a>> {
    match args {
        [Value::Timestamp(time), zone @ ..] => Ok(Value::Int(of(&civil_of(*time, zone.first())?))),
        _ => Err(EvalError::no_overload()),
    }
}

const SECOND: i64 = 1_000_000_000;

fn hours<'a>(_: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    match args {
        [Value::Duration(span)] => Ok(Value::Int(span.nanoseconds() / (3600 * SECOND))),
        _ => part(args, |civil| civil.hour),
    }
}

fn minutes<'a>(_: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    match args {
        [Value::Duration(span)] => Ok(Value::Int(span.nanoseconds() / (60 * SECOND))),
        _ => part(args, |civil| civil.minute),
    }
}

fn seconds<'a>(_: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    match args {
        [Value::Duration(span)] => Ok(Value::Int(span.nanoseconds() / SECOND)),
        _ => part(args, |civil| civil.second),
    }
}

fn milliseconds_all<'a>(_: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    match args {
        [Value::Duration(span)] => Ok(Value::Int(span.nanoseconds() / 1_000_000)),
        _ => milliseconds_of_time(args),
    }
}

fn milliseconds_past<'a>(_: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    match args {
        [Value::Duration(span)] => Ok(Value::Int(span.nanoseconds() / 1_000_000 % 1000)),
        _ => milliseconds_of_time(args),
    }
}

fn milliseconds_of_time<'a>(args: &[Value<'a>]) -> Fallible<Value<'a>> {
    match args {
        [Value::Timestamp(time), zone @ ..] => {
            civil_of(*time, zone.first())?;
            Ok(Value::Int(i64::from(time.nanoseconds() / 1_000_000)))
        }
        _ => Err(EvalError::no_overload()),
    }
}
