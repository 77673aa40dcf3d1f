//! What is tried, in order. Runs in the checking process.

use std::path::Path;
use std::time::Duration;

use xcopy::abi::*;

use super::bench::{Bench, Did};
use super::disk::Spec;
use super::fault::Fault;
use super::flight::Order;
use super::lane::Lane;
use super::places::{Places, Wishes};
use super::plugin::{Checked, Context, Method, Plugin, Stop};
use super::runner::{Runner, execute};
use super::wire;

/// Bytes by which a later core's structs are longer.
const LATER: usize = 64;
/// How long a second answer is waited for.
const LINGER: Duration = Duration::from_millis(30);

/// All of it: with today's structs, or with those of a later core.
pub fn run(path: &Path, wishes: &Wishes, later: bool) -> Checked<()> {
    let suffix = if later { " (later core)" } else { "" };
    let step = |name: &str| wire::step(&format!("{name}{suffix}"));
    step("table");
    let plugin = Plugin::load(path, if later { LATER } else { 0 })?;
    wire::about("name", &plugin.name);
    wire::about("version", &plugin.version());
    wire::about("model", plugin.model());
    let version = plugin.table.abi_version;
    wire::about("abi", &format!("{}.{}", version >> 16, version & 0xffff));
    let names: Vec<_> = plugin.methods.iter().map(|m| m.name.as_str()).collect();
    wire::passed(&match names.is_empty() {
        true => "no methods, reads and writes only".to_owned(),
        false => format!("methods: {}", names.join(", ")),
    });

    step("contexts");
    let context = plugin.start()?;
    // Another program in the process may have a context of its own.
    plugin.start()?.stop();
    wire::passed("two at once, one stopped");

    step("open");
    let places = &Places::new(&plugin, wishes)?;
    let runner = Runner::new(&context, places.limit)?;
    let (mut bench, specs) = open_first(&context, runner, places)?;
    let (size, block) = (bench.src.size, bench.src.block);
    let place = match &specs.0 {
        Spec::Native(spec) => format!("{}:{spec}", plugin.name),
        Spec::Kernel(path, _) => path.display().to_string(),
    };
    wire::passed(&format!("{place}: {size} bytes in blocks of {block}"));

    step("probe");
    let usable = probe(&mut bench)?;

    step("content");
    if bench.fill()? {
        wire::passed(&bench.seen());
    } else {
        let text = format!("{size} bytes are less than two times {}", bench.grain);
        wire::skipped(&format!("{text}: name larger devices with --spec"));
        return Ok(());
    }
    commands(&mut bench, &step)?;

    let mut works = None;
    for (method, limits) in &usable {
        step(&format!("copy by {}", method.name));
        match bench.drive(method, limits)? {
            Did::Well(n) => {
                works.get_or_insert_with(|| method.clone());
                wire::passed(&format!("{n} commands, {}", bench.seen()));
            }
            Did::Left(status) => {
                // What it wrote before is not known.
                wire::skipped(&format!("the method leaves this pair: error {}", -status));
                bench.fill()?;
            }
        }
    }
    if usable.is_empty() && !plugin.methods.is_empty() {
        step("copy");
        wire::skipped("no method is usable on these devices: name others with --spec");
    }
    tokens(&mut bench, &step)?;
    let method = works
        .as_ref()
        .filter(|m| m.flags & XCOPY_METHOD_SERIAL_DST == 0);
    waits(&mut bench, method, &step)?;
    threads(&mut bench, method, &specs, places, &step)?;

    step("release");
    bench.close()?;
    context.stop();
    let order = works.is_some() || !plugin.can(XCOPY_CAN_COPY);
    leaks(&plugin, &specs, places, order)
}

fn open_first<'a>(
    context: &'a Context<'a>,
    mut runner: Runner<'a>,
    places: &Places,
) -> Checked<(Bench<'a>, (Spec, Spec))> {
    let mut refusals = Vec::new();
    for specs in &places.pairs {
        match Bench::open(context, runner, (&specs.0, &specs.1))? {
            Ok(bench) => return Ok((bench, specs.clone())),
            Err((back, why)) => {
                runner = back;
                let name = match &specs.0 {
                    Spec::Native(spec) => format!("{}:{spec}", context.plugin.name),
                    Spec::Kernel(path, _) => path.display().to_string(),
                };
                refusals.push(format!("{name}: {why}"));
            }
        }
    }
    runner.finish();
    wire::fault(Fault::NoDevice, &refusals.join("; "));
    Err(Stop::Fault)
}

fn probe(bench: &mut Bench<'_>) -> Checked<Vec<(Method, xcopy_limits)>> {
    let plugin = bench.context.plugin;
    let pair = (bench.src.handle, bench.dst.handle);
    let verdicts = bench.runner.probe(bench.context, pair, plugin.tail)?;
    let spread = bench
        .runner
        .probe(bench.context, pair, plugin.tail + LATER)?;
    let mut usable = Vec::new();
    let mut words = Vec::new();
    for (index, method) in plugin.methods.iter().enumerate() {
        let (Some(verdict), Some(other)) = (verdicts.get(index), spread.get(index)) else {
            continue;
        };
        let wrong = super::judge::verdict(&method.name, verdict, plugin.table.max_ranges);
        for (fault, text) in wrong {
            wire::fault(fault, &text);
        }
        if (verdict.usable, verdict.reason, verdict.limits)
            != (other.usable, other.reason, other.limits)
        {
            let text = format!("{}: another verdict with a longer stride", method.name);
            wire::fault(Fault::IgnoresStride, &text);
        }
        let text = crate::library::field(&verdict.text);
        if verdict.usable == 1 {
            let mut method = method.clone();
            if verdict.flags & XCOPY_VERDICT_BY_NAME != 0 {
                method.flags |= XCOPY_METHOD_BY_NAME;
            }
            bench.respect(&verdict.limits);
            words.push(format!("{} usable", method.name));
            usable.push((method, verdict.limits));
        } else {
            words.push(format!("{} not usable ({text})", method.name));
        }
    }
    wire::passed(&words.join(", "));
    Ok(usable)
}

/// READ, WRITE, ZERO and FLUSH.
fn commands(bench: &mut Bench<'_>, step: &impl Fn(&str)) -> Checked<()> {
    let plugin = bench.context.plugin;
    for (bit, name) in [
        (XCOPY_CAN_READ, "read"),
        (XCOPY_CAN_WRITE, "write"),
        (XCOPY_CAN_ZERO, "zero"),
        (XCOPY_CAN_FLUSH, "flush"),
    ] {
        if !plugin.can(bit) {
            continue;
        }
        step(name);
        match bit {
            XCOPY_CAN_READ => {
                let orders = bench.simple(64, None);
                bench.all_well(&orders)?;
                bench.compare("READ", &[])?;
            }
            XCOPY_CAN_WRITE => bench.write_inside()?,
            XCOPY_CAN_ZERO => bench.zero_inside()?,
            _ => bench.flush()?,
        }
        bench.runner.linger(LINGER);
        wire::passed(&bench.seen());
    }
    Ok(())
}

fn tokens(bench: &mut Bench<'_>, step: &impl Fn(&str)) -> Checked<()> {
    let plugin = bench.context.plugin;
    if !plugin.can(XCOPY_CAN_TOKEN) {
        return Ok(());
    }
    step("tokens");
    let mut ends = Vec::new();
    for pair in [(bench.src.handle, 0), (0, bench.dst.handle)] {
        let verdicts = bench.runner.probe(bench.context, pair, plugin.tail)?;
        let usable = verdicts.iter().position(|verdict| verdict.usable == 1);
        ends.push(usable.map(|index| plugin.methods[index].clone()));
    }
    let [Some(create), Some(write)] = &ends[..] else {
        wire::skipped("no method makes tokens of these devices");
        return Ok(());
    };
    match bench.token(create, write)? {
        Did::Well(_) => wire::passed(&format!("made, written, released; {}", bench.seen())),
        Did::Left(status) => {
            wire::skipped(&format!(
                "the method leaves these devices: error {}",
                -status
            ));
        }
    }
    Ok(())
}

/// What only queues have: sleeping consumers and cancel.
fn waits(bench: &mut Bench<'_>, method: Option<&Method>, step: &impl Fn(&str)) -> Checked<()> {
    let orders = bench.simple(super::lane::WINDOW as u64, method);
    let Runner::Queue(lane) = &mut bench.runner else {
        return Ok(());
    };
    let Some(first) = orders.first() else {
        step("queue");
        wire::skipped("no command works on these devices: name others with --spec");
        return Ok(());
    };
    step("sleep");
    match lane.sleep(first)? {
        None => wire::passed("woken by the queue's descriptor"),
        Some(_) if lane_is_threaded(bench.context) => {
            wire::skipped("complete wakes a consumer by itself");
        }
        Some(why) => wire::skipped(&why),
    }
    step("cancel");
    let Runner::Queue(lane) = &mut bench.runner else {
        return Ok(());
    };
    let canceled = lane.run_and_cancel(&orders)?;
    lane.linger(LINGER * 3);
    match canceled {
        _ if bench.context.plugin.table.cancel.is_none() => {
            wire::skipped("no cancel: a caller waits for the device");
        }
        0 => wire::skipped("nothing was left to cancel"),
        n => wire::passed(&format!("{n} commands, each ended once")),
    }
    Ok(())
}

fn lane_is_threaded(context: &Context<'_>) -> bool {
    context.plugin.table.model == XCOPY_MODEL_THREADED
}

/// Several threads, each with what the model allows it.
fn threads(
    bench: &mut Bench<'_>,
    method: Option<&Method>,
    specs: &(Spec, Spec),
    places: &Places,
    step: &impl Fn(&str),
) -> Checked<()> {
    step("threads");
    let context = bench.context;
    let orders = bench.simple(64, method);
    if orders.is_empty() {
        wire::skipped("no command works on these devices: name others with --spec");
        return Ok(());
    }
    if let Runner::Calls(_) = bench.runner {
        in_threads(4, || {
            for order in &orders {
                judge_status(order, execute(context, order)?.status, Fault::Fails);
            }
            Ok(())
        })?;
        wire::passed("execute from four threads at once");
        return Ok(());
    }
    if let (Runner::Queue(lane), false) = (&mut bench.runner, context.plugin.is_affine()) {
        std::thread::scope(|scope| {
            let orders = &orders;
            let moved = scope.spawn(move || -> Checked<()> {
                lane.own();
                for (order, end) in orders.iter().zip(lane.run(orders)?) {
                    judge_status(order, end.status, Fault::ThreadBound);
                }
                lane.linger(LINGER);
                Ok(())
            });
            joined(moved.join())
        })?;
        if let Runner::Queue(lane) = &bench.runner {
            lane.own();
        }
    }
    in_threads(2, || {
        let lane = Lane::new(context, places.limit)?;
        if !context.plugin.is_affine() {
            let mut lane = lane;
            for (order, end) in orders.iter().zip(lane.run(&orders)?) {
                judge_status(order, end.status, Fault::Fails);
            }
            lane.linger(LINGER);
            lane.destroy();
            return Ok(());
        }
        // Each queue opens a device for itself.
        let Ok(mut own) = Bench::open(context, Runner::Queue(lane), (&specs.0, &specs.1))? else {
            return Ok(());
        };
        (own.span, own.grain) = (bench.span, bench.grain);
        let orders = own.simple(64, method);
        own.all_well(&orders)?;
        own.close()
    })?;
    wire::passed(match context.plugin.is_affine() {
        true => "two queues at once, each on its thread",
        false => "a queue that changes its owner; two queues at once",
    });
    Ok(())
}

fn judge_status(order: &Order, status: i32, fault: Fault) {
    if status != 0 && !matches!(-status, libc::EAGAIN | libc::EBUSY | libc::EINTR) {
        let op = super::judge::op_name(order.op);
        wire::fault(fault, &format!("{op} answered {status} on another thread"));
    }
}

fn in_threads(n: usize, work: impl Fn() -> Checked<()> + Sync) -> Checked<()> {
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..n).map(|_| scope.spawn(&work)).collect();
        all.into_iter()
            .map(|one| joined(one.join()))
            .fold(Ok(()), Result::and)
    })
}

fn joined<T>(result: std::thread::Result<Checked<T>>) -> Checked<T> {
    result.unwrap_or_else(|_| Err(Stop::Machine("a thread of the check panicked".into())))
}

/// One context from start to stop, with a little work.
fn cycle(plugin: &Plugin, specs: &(Spec, Spec), places: &Places, work: bool) -> Checked<()> {
    let context = plugin.start()?;
    let runner = Runner::new(&context, places.limit)?;
    match Bench::open(&context, runner, (&specs.0, &specs.1))? {
        Ok(mut bench) => {
            bench.span = bench.grain * 2;
            if work {
                let orders = bench.simple(4, None);
                bench.all_well(&orders)?;
            }
            let Bench {
                runner, src, dst, ..
            } = bench;
            let mut runner = runner;
            runner.close(&context, src)?;
            runner.close(&context, dst)?;
            runner.finish();
        }
        Err((runner, _)) => runner.finish(),
    }
    context.stop();
    Ok(())
}

fn leaks(plugin: &Plugin, specs: &(Spec, Spec), places: &Places, work: bool) -> Checked<()> {
    const CYCLES: usize = 12;
    /// What malloc counts for one byte.
    const LEAST_BLOCK: usize = 32;
    let count = || {
        // Threads that were told to end may need a moment.
        std::thread::sleep(Duration::from_millis(20));
        let heap = super::system::heap_bytes();
        (super::system::descriptors(), super::system::threads(), heap)
    };
    let mut seen = Vec::new();
    for _ in 0..4 {
        for _ in 0..CYCLES {
            cycle(plugin, specs, places, work)?;
        }
        seen.push(count());
    }
    // Growth in every later quarter: what is made once and kept is no leak, nor
    // what the C library keeps for a thread more.
    let grows = |of: &dyn Fn(usize) -> usize, by: usize| {
        let steps = [0, 1, 2].map(|at| of(at + 1).saturating_sub(of(at)));
        let least = steps.into_iter().min().unwrap_or(0);
        (least >= by).then_some(least / CYCLES)
    };
    let mut well = true;
    for (what, of) in [
        (
            "descriptors",
            &(|i: usize| seen[i].0) as &dyn Fn(usize) -> usize,
        ),
        ("threads", &|i| seen[i].1),
    ] {
        if let Some(n) = grows(of, CYCLES) {
            let text = format!("{n} {what} stay after each open, queue and close");
            wire::fault(Fault::Leaks, &text);
            well = false;
        }
    }
    if let Some(n) = grows(&|i| seen[i].2.unwrap_or(0), CYCLES * LEAST_BLOCK) {
        let text = format!("{n} bytes stay after each start, open, queue, close and stop");
        wire::fault(Fault::LeaksMemory, &text);
        well = false;
    }
    if well {
        wire::passed(&format!("{} times, nothing stays", 4 * CYCLES));
    }
    Ok(())
}
