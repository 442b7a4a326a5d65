//! The macros that go through lists and maps, run as what they mean and charged as what cel-go expands them to.

use crate::{
    ast::FoldKind,
    error::{EvalError, Fallible},
    library::go,
    list::List,
    machine::Machine,
    map::{Entries, Map},
    program::FoldPlan,
    value::{Text, Value},
};

/// What a macro goes through.
enum Range<'r, 'a> {
    List(&'r List<'a>),
    Entries(Vec<(Value<'a>, Value<'a>)>),
    Json(serde_json::map::Iter<'a>),
}

impl<'a> Machine<'a> {
    pub(crate) fn fold(&mut self, plan: &'a FoldPlan, range: &Value<'a>) -> Fallible<Value<'a>> {
        let range = match range {
            Value::List(list) => Range::List(list),
            Value::Map(Map::Json(entries)) => Range::Json(entries.iter()),
            Value::Map(map) => Range::Entries(map.entries()),
            other => {
                let of = go::type_of(other);
                if plan.kind == FoldKind::SortBy {
                    self.charge(plan.cost.result)?;
                    plan.check_keys()?;
                }
                return Err(EvalError::Failed(if plan.two {
                    format!("unsupported comprehension range type: {of}")
                } else {
                    format!("got '{of}', expected iterable type")
                }));
            }
        };
        let depth = self.locals.len();
        let result = match plan.kind {
            FoldKind::All => self.fold_until(plan, range, false),
            FoldKind::Exists => self.fold_until(plan, range, true),
            FoldKind::ExistsOne => self.fold_exists_one(plan, range),
            FoldKind::Map | FoldKind::TransformList => self.fold_map(plan, range),
            FoldKind::Filter => self.fold_filter(plan, range),
            FoldKind::TransformMap => self.fold_transform_map(plan, range),
            FoldKind::TransformMapEntry => self.fold_transform_entries(plan, range),
            FoldKind::SortBy => self.fold_sort(plan, range),
        };
        self.locals.truncate(depth);
        result
    }

    /// Sets the variables to the next item; false past the last.
    fn next_item(
        &mut self,
        plan: &FoldPlan,
        range: &mut Range<'_, 'a>,
        at: usize,
        depth: usize,
    ) -> Fallible<bool> {
        let (first, second) = match range {
            Range::List(list) => {
                let Some(item) = list.get(at) else { return Ok(false) };
                if plan.two {
                    (Value::Int(i64::try_from(at).unwrap_or(i64::MAX)), Some(item))
                } else {
                    (item, None)
                }
            }
            Range::Entries(entries) => {
                let Some((key, value)) = entries.get(at) else { return Ok(false) };
                (key.clone(), plan.two.then(|| value.clone()))
            }
            Range::Json(iter) => {
                let Some((key, value)) = iter.next() else { return Ok(false) };
                (Value::String(Text::Borrowed(key)), plan.two.then(|| Value::from_json(value)))
            }
        };
        self.iterate()?;
        self.locals.truncate(depth);
        self.locals.push(first);
        self.locals.extend(second);
        Ok(true)
    }

    /// `all` and `exists`: the first item for which the body is `decisive` decides, and absorbs what erred before.
    fn fold_until(
        &mut self,
        plan: &'a FoldPlan,
        mut range: Range<'_, 'a>,
        decisive: bool,
    ) -> Fallible<Value<'a>> {
        let depth = self.locals.len();
        let mut failed = None;
        let mut at = 0;
        while self.next_item(plan, &mut range, at, depth)? {
            at += 1;
            self.charge(plan.cost.condition + plan.cost.step)?;
            match self.eval(plan.body) {
                Ok(Value::Bool(held)) if held != decisive => {}
                Ok(Value::Bool(_)) => {
                    if self.next_item(plan, &mut range, at, depth)? {
                        self.charge(plan.cost.condition)?;
                    }
                    self.charge(plan.cost.result)?;
                    return Ok(Value::Bool(decisive));
                }
                Ok(_) => {
                    failed.get_or_insert_with(EvalError::no_overload);
                }
                Err(error) if error.is_absorbed() => {
                    failed.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        self.charge(plan.cost.result)?;
        failed.map_or(Ok(Value::Bool(!decisive)), Err)
    }

    /// Whether an item is taken. What errs is kept, the last of its kind, and the loop goes on as cel-go's does:
    /// the rest costs what it costs.
    fn condition(&mut self, id: u32, failed: &mut Option<EvalError>) -> Fallible<bool> {
        match self.eval(id) {
            Ok(Value::Bool(truth)) => Ok(truth),
            Ok(_) => {
                *failed = Some(EvalError::no_overload());
                Ok(false)
            }
            Err(error) if error.is_absorbed() => {
                *failed = Some(error);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// What a macro makes of an item; the first error is kept and the loop goes on.
    fn made(&mut self, id: u32, failed: &mut Option<EvalError>) -> Fallible<Option<Value<'a>>> {
        match self.eval(id) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_absorbed() => {
                failed.get_or_insert(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn fold_exists_one(
        &mut self,
        plan: &'a FoldPlan,
        mut range: Range<'_, 'a>,
    ) -> Fallible<Value<'a>> {
        let depth = self.locals.len();
        let mut found = 0_u64;
        let mut failed = None;
        let mut at = 0;
        while self.next_item(plan, &mut range, at, depth)? {
            at += 1;
            if self.condition(plan.body, &mut failed)? {
                self.charge(plan.cost.step)?;
                found += 1;
            }
        }
        self.charge(plan.cost.result)?;
        failed.map_or(Ok(Value::Bool(found == 1)), Err)
    }

    fn fold_map(&mut self, plan: &'a FoldPlan, mut range: Range<'_, 'a>) -> Fallible<Value<'a>> {
        let depth = self.locals.len();
        let mut items = Vec::new();
        let mut failed = None;
        let mut at = 0;
        while self.next_item(plan, &mut range, at, depth)? {
            at += 1;
            if let Some(filter) = plan.filter
                && !self.condition(filter, &mut failed)?
            {
                continue;
            }
            self.charge(plan.cost.step)?;
            items.extend(self.made(plan.body, &mut failed)?);
            self.reserve_item(items.len())?;
        }
        self.charge(plan.cost.result)?;
        failed.map_or_else(|| Ok(Value::list(items)), Err)
    }

    fn reserve_item(&mut self, items: usize) -> Fallible<()> {
        // Lists grow by doubling: the size is looked at when it passes a power of two.
        if items.is_power_of_two() { self.reserve_items(items) } else { Ok(()) }
    }

    fn fold_filter(&mut self, plan: &'a FoldPlan, mut range: Range<'_, 'a>) -> Fallible<Value<'a>> {
        let depth = self.locals.len();
        let mut items = Vec::new();
        let mut failed = None;
        let mut at = 0;
        while self.next_item(plan, &mut range, at, depth)? {
            at += 1;
            if self.condition(plan.body, &mut failed)? {
                self.charge(plan.cost.step)?;
                items.extend(self.locals.get(depth).cloned());
                self.reserve_item(items.len())?;
            }
        }
        self.charge(plan.cost.result)?;
        failed.map_or_else(|| Ok(Value::list(items)), Err)
    }

    fn fold_transform_map(
        &mut self,
        plan: &'a FoldPlan,
        mut range: Range<'_, 'a>,
    ) -> Fallible<Value<'a>> {
        let depth = self.locals.len();
        let mut built = Entries::default();
        let mut failed = None;
        let mut at = 0;
        while self.next_item(plan, &mut range, at, depth)? {
            at += 1;
            if let Some(filter) = plan.filter
                && !self.condition(filter, &mut failed)?
            {
                continue;
            }
            // After an error only the map that it stands for is looked at.
            if failed.is_some() {
                self.charge(1)?;
                continue;
            }
            self.charge(plan.cost.step)?;
            let key = self.locals.get(depth).cloned().unwrap_or(Value::Null);
            if let Some(value) = self.made(plan.body, &mut failed)? {
                self.add_entry(&mut built, key, value, at, &mut failed)?;
            }
        }
        self.charge(plan.cost.result)?;
        failed.map_or_else(|| Ok(Value::Map(Map::of(built))), Err)
    }

    fn add_entry(
        &mut self,
        built: &mut Entries<'a>,
        key: Value<'a>,
        value: Value<'a>,
        count: usize,
        failed: &mut Option<EvalError>,
    ) -> Fallible<()> {
        let shown = go::shown(&key);
        if !built.insert(key, value) {
            let told = format!("insert failed: key {shown} already exists");
            failed.get_or_insert(EvalError::Failed(told));
        }
        self.reserve_item(count.saturating_mul(2))
    }

    fn fold_transform_entries(
        &mut self,
        plan: &'a FoldPlan,
        mut range: Range<'_, 'a>,
    ) -> Fallible<Value<'a>> {
        let depth = self.locals.len();
        let mut built = Entries::default();
        let mut failed = None;
        let mut at = 0;
        let mut count = 0;
        while self.next_item(plan, &mut range, at, depth)? {
            at += 1;
            if let Some(filter) = plan.filter
                && !self.condition(filter, &mut failed)?
            {
                continue;
            }
            self.charge(plan.cost.step)?;
            let entries = match self.made(plan.body, &mut failed)? {
                Some(Value::Map(entries)) => entries.entries(),
                Some(_) => return Err(EvalError::no_overload()),
                None => Vec::new(),
            };
            for (key, value) in entries {
                count += 1;
                self.add_entry(&mut built, key, value, count, &mut failed)?;
            }
        }
        self.charge(plan.cost.result)?;
        failed.map_or_else(|| Ok(Value::Map(Map::of(built))), Err)
    }

    fn fold_sort(&mut self, plan: &'a FoldPlan, mut range: Range<'_, 'a>) -> Fallible<Value<'a>> {
        let depth = self.locals.len();
        let list: Option<List<'a>> = match &range {
            Range::List(list) => Some(List::clone(list)),
            Range::Entries(_) | Range::Json(_) => None,
        };
        let mut keys = Vec::new();
        let mut failed = None;
        let mut at = 0;
        while self.next_item(plan, &mut range, at, depth)? {
            at += 1;
            self.charge(plan.cost.step)?;
            keys.extend(self.made(plan.body, &mut failed)?);
            self.reserve_item(keys.len())?;
        }
        self.charge(plan.cost.result)?;
        if let Some(error) = failed {
            plan.check_keys()?;
            return self.charge_failure(1, error);
        }
        let Some(list) = list else {
            self.charge(1)?;
            return Err(EvalError::no_overload_for("@sortByAssociatedKeys"));
        };
        let operands = [Value::List(list.clone()), Value::list(keys.clone())];
        let sorted = crate::library::lists::sort_by_keys(&list, &keys);
        self.charge((plan.sort_cost.0)(&operands, sorted.as_ref().ok()))?;
        sorted
    }
}
