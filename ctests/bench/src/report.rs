//! Medians, quartiles, the table, the goals and JSON.

use crate::options::Options;
use serde_json::{Value, json};

/// Nanoseconds of one operation in one run.
pub struct Sample {
    /// By the clock on the wall.
    pub wall: f64,
    /// Of the measuring thread's CPU.
    pub cpu: f64,
}

/// The runs of one case.
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its runs.
    pub samples: Vec<Sample>,
}

/// Minimum, quartiles and maximum.
struct Spread([f64; 5]);

impl Spread {
    fn median(&self) -> f64 {
        self.0[2]
    }
}

impl Series {
    /// A case without runs.
    pub fn new(name: &str) -> Series {
        Series {
            name: name.into(),
            samples: Vec::new(),
        }
    }

    fn spread(&self, of: impl Fn(&Sample) -> f64) -> Spread {
        let mut values: Vec<f64> = self.samples.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| -> f64 {
            // Between the two nearest runs.
            let place = share * (values.len().saturating_sub(1)) as f64;
            let below = values
                .get(place.floor() as usize)
                .copied()
                .unwrap_or(f64::NAN);
            let above = values
                .get(place.ceil() as usize)
                .copied()
                .unwrap_or(f64::NAN);
            below + (above - below) * place.fract()
        };
        Spread([at(0.0), at(0.25), at(0.5), at(0.75), at(1.0)])
    }
}

/// Prints all cases.
pub fn table(series: &[Series], absent: &[(String, String)]) {
    println!(
        "{:36} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "ns per operation", "median", "q1", "q3", "min", "max", "cpu"
    );
    for case in series {
        let [min, q1, median, q3, max] = case.spread(|s| s.wall).0;
        let cpu = case.spread(|s| s.cpu).median();
        println!(
            "{:36} {median:8.1} {q1:8.1} {q3:8.1} {min:8.1} {max:8.1} {cpu:8.1}",
            case.name
        );
    }
    for (name, why) in absent {
        println!("{name:36} not measured: {why}");
    }
}

/// Case, nanoseconds, and the batch and divisor of the NOP that would do too.
type Goal = (&'static str, f64, Option<(u32, f64)>);

const GOALS: [Goal; 5] = [
    ("libxcopy fixed pair, batch 1", 25.0, Some((1, 12.0))),
    ("libxcopy random pairs, batch 1", 25.0, Some((1, 12.0))),
    ("libxcopy fixed pair, batch 32", 13.0, Some((32, 6.0))),
    ("libxcopy random pairs, batch 32", 18.0, Some((32, 6.0))),
    ("libxcopy lane, depth 64, batch 32", 60.0, None),
];

/// The goal of a case: its nanoseconds, or what a NOP of this run allows.
fn goal_of(series: &[Series], at: usize) -> f64 {
    let (_, ns, nop) = GOALS[at];
    let Some((batch, divisor)) = nop else {
        return ns;
    };
    let of = |kind: &str| {
        let name = format!("io_uring NOP {kind}, batch {batch}");
        series
            .iter()
            .find(|s| s.name == name)
            .map(|s| s.spread(|s| s.wall).median())
    };
    // The faster of the two rings.
    let nop = match (of("default"), of("deferred")) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    nop.map_or(ns, |nop| ns.max(nop / divisor))
}

/// Prints which goals are kept; whether all that were measured are.
pub fn goals(series: &[Series]) -> bool {
    let mut kept = true;
    for (at, (name, ns, _)) in GOALS.iter().enumerate() {
        let Some(case) = series.iter().find(|s| s.name == *name) else {
            continue;
        };
        let (median, goal) = (case.spread(|s| s.wall).median(), goal_of(series, at));
        let word = if median <= goal { "kept" } else { "MISSED" };
        println!("goal {word}: {name}: {median:.1} of {ns:.0} ns ({goal:.1} by this run's NOP)");
        kept &= median <= goal;
    }
    kept
}

/// The figures for other programs.
pub fn json(series: &[Series], absent: &[(String, String)], options: &Options) -> String {
    let spread = |s: Spread| {
        let [min, q1, median, q3, max] = s.0;
        json!({ "min": min, "q1": q1, "median": median, "q3": q3, "max": max })
    };
    let cases: Vec<Value> = series
        .iter()
        .map(|case| {
            json!({
                "name": case.name,
                "wall_ns": spread(case.spread(|s| s.wall)),
                "cpu_ns": spread(case.spread(|s| s.cpu)),
                "runs": case.samples.iter().map(|s| s.wall).collect::<Vec<_>>(),
            })
        })
        .collect();
    let goals: Vec<Value> = GOALS
        .iter()
        .enumerate()
        .filter_map(|(at, (name, ns, _))| {
            let case = series.iter().find(|s| s.name == *name)?;
            let (median, goal) = (case.spread(|s| s.wall).median(), goal_of(series, at));
            Some(json!({
                "name": name, "ns": ns, "allowed_ns": goal, "median_ns": median,
                "kept": median <= goal,
            }))
        })
        .collect();
    let absent: Vec<Value> = absent
        .iter()
        .map(|(name, why)| json!({ "name": name, "why": why }))
        .collect();
    let all = json!({
        "runs": options.runs, "ops": options.ops, "cases": cases, "goals": goals,
        "not_measured": absent,
    });
    format!("{all:#}\n")
}

/// Whether the report names all cases, and just those goals whose cases there are.
pub fn check(
    series: &[Series],
    absent: &[(String, String)],
    options: &Options,
) -> Result<(), String> {
    let text = json(series, absent, options);
    let all: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let names = |list: &str| -> Vec<&str> {
        let items = all[list].as_array().into_iter().flatten();
        items.filter_map(|item| item["name"].as_str()).collect()
    };
    let expected: Vec<&str> = series.iter().map(|case| case.name.as_str()).collect();
    if names("cases") != expected {
        return Err(format!("the cases are not {expected:?}: {text}"));
    }
    let goals = GOALS.map(|(name, ..)| name);
    let goals: Vec<&str> = goals
        .into_iter()
        .filter(|goal| expected.contains(goal))
        .collect();
    if names("goals") != goals || names("not_measured").len() != absent.len() {
        return Err(format!("the goals are not {goals:?}: {text}"));
    }
    if options.only.is_empty() && goals.len() != GOALS.len() {
        return Err(format!("not every goal has its case: {goals:?}"));
    }
    Ok(())
}
