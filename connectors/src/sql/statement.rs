//! One SELECT with named parameters, read by a parser.
//!
//! What runs is what the parser understood, printed again: nothing that it skipped, such as a comment that MySQL would
//! execute, reaches the database. Parameters become `$1` or `?` in it.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, LimitClause, Query, Select, SelectItem, SetExpr, Statement as Parsed, Value, ValueWithSpan, Visit, VisitMut,
    Visitor, VisitorMut,
};
use sqlparser::dialect::{Dialect, MySqlDialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::parser::Parser;

use super::settings::Engine;
use crate::part::{self, Part};

const MAX_STATEMENT_BYTES: usize = 64 * 1024;
const ONE_SELECT: &str = "one SELECT, or WITH … SELECT, and nothing else";

/// A statement that reads.
#[derive(Debug)]
pub(super) struct Statement {
    /// What runs.
    pub(super) sql: String,
    /// Names and parts, in the order in which they are bound.
    pub(super) parameters: Vec<(String, Part)>,
    pub(super) projection: Projection,
}

/// What columns the statement gives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Projection {
    Named(Vec<String>),
    /// There is a `*` or a column without a name: only the database knows.
    Unknown,
}

impl Statement {
    pub(super) fn parse(engine: Engine, text: &str) -> Result<Self, String> {
        if text.len() > MAX_STATEMENT_BYTES {
            return Err("at most 65536 bytes".to_owned());
        }
        let dialect: Box<dyn Dialect> = match engine {
            Engine::PostgreSql => Box::new(PostgreSqlDialect {}),
            Engine::MariaDb | Engine::MySql => Box::new(MySqlDialect {}),
            Engine::Sqlite => Box::new(SQLiteDialect {}),
        };
        // The printer does not escape it again, so another text would run than was read.
        if text.contains('\\') {
            return Err("no backslash".to_owned());
        }
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            return Err("no control characters but ends of lines and tabs".to_owned());
        }
        let parsed = Parser::parse_sql(&*dialect, text).map_err(|error| format!("{ONE_SELECT}: {error}"))?;
        let Ok([Parsed::Query(mut query)]) = <[Parsed; 1]>::try_from(parsed) else {
            return Err(ONE_SELECT.to_owned());
        };
        if let ControlFlow::Break(what) = Visit::visit(&*query, &mut OnlyReads) {
            return Err(format!("{ONE_SELECT}: not {what}"));
        }
        let projection = projection(&query.body);
        if let ControlFlow::Break(problem) = VisitMut::visit(&mut *query, &mut Marks) {
            return Err(problem);
        }
        if query.limit_clause.is_some() || query.fetch.is_some() {
            return Err("no LIMIT, OFFSET or FETCH of its own: of several persons none is picked".to_owned());
        }
        // Two rows are as many as are ever looked at.
        let limit = Some(Expr::value(Value::Number("2".to_owned(), false)));
        query.limit_clause = Some(LimitClause::LimitOffset { limit, offset: None, limit_by: Vec::new() });
        let (sql, parameters) = bound(engine, &query.to_string())?;
        Ok(Self { sql, parameters, projection })
    }
}

/// Finds what does more than read.
struct OnlyReads;

impl Visitor for OnlyReads {
    type Break = &'static str;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<&'static str> {
        if !query.locks.is_empty() {
            return ControlFlow::Break("FOR UPDATE or FOR SHARE");
        }
        reads(&query.body)
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<&'static str> {
        if select.into.is_some() { ControlFlow::Break("SELECT … INTO") } else { ControlFlow::Continue(()) }
    }

    fn pre_visit_statement(&mut self, _: &Parsed) -> ControlFlow<&'static str> {
        ControlFlow::Break("another statement")
    }
}

fn reads(body: &SetExpr) -> ControlFlow<&'static str> {
    match body {
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => ControlFlow::Continue(()),
        SetExpr::SetOperation { left, right, .. } => {
            reads(left)?;
            reads(right)
        }
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
            ControlFlow::Break("INSERT, UPDATE, DELETE or MERGE")
        }
        SetExpr::Table(_) => ControlFlow::Break("TABLE"),
    }
}

/// Around the name of a parameter in the printed statement. The operator's text has no control characters.
const MARK: char = '\u{1f}';

/// Marks the parameters. Their order is that of the printed statement, which is not always that of a visit.
struct Marks;

impl VisitorMut for Marks {
    type Break = String;

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<String> {
        if let Value::Placeholder(placeholder) = &value.value {
            let Some(name) = placeholder.strip_prefix(':') else {
                let problem = format!("{placeholder} is no named parameter; write :birth_name and the like");
                return ControlFlow::Break(problem);
            };
            value.value = Value::Placeholder(format!("{MARK}{name}{MARK}"));
        }
        ControlFlow::Continue(())
    }
}

/// The marked statement with `$1` or `?` for each parameter, and the parameters in the order in which they are bound.
fn bound(engine: Engine, marked: &str) -> Result<(String, Vec<(String, Part)>), String> {
    let mut sql = String::with_capacity(marked.len());
    let mut parameters: Vec<(String, Part)> = Vec::new();
    for (index, piece) in marked.split(MARK).enumerate() {
        if index % 2 == 0 {
            sql.push_str(piece);
            continue;
        }
        parameters.push((piece.to_owned(), part_of(piece)?));
        match engine {
            Engine::PostgreSql => sql.push_str(&format!("${}", parameters.len())),
            Engine::MariaDb | Engine::MySql | Engine::Sqlite => sql.push('?'),
        }
    }
    Ok((sql, parameters))
}

fn part_of(name: &str) -> Result<Part, String> {
    if let Some(filter) = name.strip_prefix("filter_").filter(|filter| !filter.is_empty()) {
        return Ok(Part::Filter(filter.to_owned()));
    }
    let known = || format!("unknown parameter :{name}; known are {} and filter_NAME", part::NAMES);
    Part::of_person(name).ok_or_else(known)
}

/// The names of the columns of the first SELECT, which name those of a UNION too.
fn projection(body: &SetExpr) -> Projection {
    let select = match body {
        SetExpr::Select(select) => select,
        SetExpr::Query(query) => return projection(&query.body),
        SetExpr::SetOperation { left, .. } => return projection(left),
        SetExpr::Values(_)
        | SetExpr::Insert(_)
        | SetExpr::Update(_)
        | SetExpr::Delete(_)
        | SetExpr::Merge(_)
        | SetExpr::Table(_) => return Projection::Unknown,
    };
    let mut names = Vec::new();
    for item in &select.projection {
        match item {
            SelectItem::ExprWithAlias { alias, .. } => names.push(alias.value.clone()),
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => names.push(name.value.clone()),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(names_of)) => {
                names.extend(names_of.last().map(|name| name.value.clone()));
            }
            SelectItem::UnnamedExpr(_)
            | SelectItem::ExprWithAliases { .. }
            | SelectItem::QualifiedWildcard(..)
            | SelectItem::Wildcard(_) => return Projection::Unknown,
        }
    }
    Projection::Named(names)
}
