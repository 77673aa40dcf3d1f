//! Random operations from one kind of place to another.

use crate::api::{Ended, Job, Library, QUEUES};
use crate::draw::{Known, MOVES};
use crate::expect::{self, Verdict};
use crate::object::{CAP, Object, somewhere};
use crate::places::{Place, Places};
use crate::random::Random;
use std::collections::BTreeMap;
use xcopy::abi::*;

/// Ranges of a request at most.
const RANGES_MAX: u64 = 200;

/// What a pairing did.
#[derive(Default)]
pub struct Counts {
    /// Requests and changes behind the library's back.
    pub operations: u64,
    /// Requests by method that moved bytes for them.
    pub methods: BTreeMap<u16, u64>,
    /// Requests that had to be refused and were.
    pub refused: u64,
    /// Requests that no method could do.
    pub unsupported: u64,
    /// Requests that were in flight together with others.
    pub together: u64,
    /// Comparisons of an object past the page cache.
    pub direct: u64,
}

impl Counts {
    /// Adds another's.
    pub fn add(&mut self, other: &Counts) {
        self.operations += other.operations;
        for (method, n) in &other.methods {
            *self.methods.entry(*method).or_default() += n;
        }
        self.refused += other.refused;
        self.unsupported += other.unsupported;
        self.together += other.together;
        self.direct += other.direct;
    }
}

/// A pairing under test.
pub struct Pairing<'a> {
    library: Library,
    pub(crate) random: Random,
    pub(crate) objects: Vec<Object>,
    /// Number of sources; the rest are destinations first of all.
    sources: usize,
    known: BTreeMap<(usize, usize), Known>,
    /// What was done.
    pub counts: Counts,
    names: (&'a str, &'a str),
}

impl<'a> Pairing<'a> {
    /// Makes two objects at each place.
    pub fn new(places: &Places, src: &'a Place, dst: &'a Place, seed: u64) -> Result<Self, String> {
        let library = Library::new()?;
        let mut objects = Vec::new();
        for (id, place) in [(1, src), (2, src), (3, dst), (4, dst)] {
            let name = format!("{}-{}-{id}", src.name(), dst.name());
            let images = places.dir.path();
            objects.push(Object::new(&library, place, images, &name, id)?);
        }
        let mut known = BTreeMap::new();
        for a in 0..objects.len() {
            for b in 0..objects.len() {
                let (a_handle, b_handle) = (objects[a].handle, objects[b].handle);
                known.insert((a, b), Known::of(&library.methods(a_handle, b_handle)?));
            }
        }
        Ok(Pairing {
            library,
            random: Random::new(seed),
            objects,
            sources: 2,
            known,
            counts: Counts::default(),
            names: (src.name(), dst.name()),
        })
    }

    /// Runs `operations` of them and checks that each method had its share.
    pub fn run(&mut self, operations: u64) -> Result<(), String> {
        while self.counts.operations < operations {
            let number = self.counts.operations;
            self.step().map_err(|why| {
                format!(
                    "{} to {}, operation {number}: {why}",
                    self.names.0, self.names.1
                )
            })?;
        }
        for object in &mut self.objects {
            object.verify(false)?;
            object.verify(true)?;
        }
        self.minimum(operations)
    }

    /// Each method that the pair has must have been used.
    fn minimum(&self, operations: u64) -> Result<(), String> {
        let known = self.known[&(0, 2)];
        let least = operations / 100;
        let wanted = known.usable & !(1 << XCOPY_METHOD_NULL) | 1 << XCOPY_METHOD_ZERO;
        for method in (0..XCOPY_METHOD_MAX as u16).filter(|method| wanted >> method & 1 == 1) {
            let found = self.counts.methods.get(&method).copied().unwrap_or(0);
            if found < least {
                return Err(format!(
                    "{} to {}: method {method} did {found} requests, not {least}",
                    self.names.0, self.names.1
                ));
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        match self.random.below(100) {
            0..=9 => self.refresh()?,
            10..=13 => self.hole()?,
            14..=16 => self.truncate()?,
            17..=25 => self.zero()?,
            26..=27 => self.flush()?,
            28..=32 => self.beyond()?,
            33..=46 => self.several()?,
            47..=56 => self.within_one()?,
            _ => self.copy()?,
        }
        if self.counts.operations % 64 < 2 {
            let direct = self.counts.operations % 128 < 2;
            for object in &mut self.objects {
                object.verify(direct)?;
                self.counts.direct += u64::from(direct && object.has_direct());
            }
        }
        Ok(())
    }

    fn any(&mut self) -> usize {
        self.random.below(self.objects.len() as u64) as usize
    }

    fn refresh(&mut self) -> Result<(), String> {
        let at = self.any();
        let offset = somewhere(&mut self.random, CAP);
        let length = 1 + self.random.below((CAP - offset).min(256 << 10));
        self.counts.operations += 1;
        let object = &mut self.objects[at];
        object.refresh(offset, length).map_err(|e| e.to_string())?;
        object.verify(false)
    }

    fn hole(&mut self) -> Result<(), String> {
        let at = self.any();
        let size = self.objects[at].size();
        if !self.objects[at].is_file || size < 2 {
            return Ok(());
        }
        let offset = somewhere(&mut self.random, size);
        let length = 1 + self.random.below((size - offset).min(128 << 10));
        self.counts.operations += 1;
        let object = &mut self.objects[at];
        object
            .punch(offset, length)
            .map_err(|e| format!("punch: {e}"))?;
        object.verify(false)
    }

    fn truncate(&mut self) -> Result<(), String> {
        let at = self.any();
        if !self.objects[at].is_file {
            return Ok(());
        }
        let size = CAP / 8 + somewhere(&mut self.random, CAP - CAP / 8);
        self.counts.operations += 1;
        let object = &mut self.objects[at];
        object
            .truncate(&self.library, size)
            .map_err(|e| e.to_string())?;
        object.verify(false)
    }

    fn zero(&mut self) -> Result<(), String> {
        let at = self.any();
        let ranges = self.destinations(at, 0, CAP, 4);
        let mut job = self.job(XCOPY_OP_ZERO, 0, at, ranges);
        job.methods = self.random.pick(&[0, 1 << XCOPY_METHOD_ZERO]);
        let ended = self.submit(std::slice::from_ref(&job), &[Verdict::Done])?;
        self.count(&ended[0]);
        for range in &job.ranges {
            let zeroes = vec![0; range.length as usize];
            self.objects[at].put(range.dst_offset, &zeroes);
        }
        self.objects[at].verify(false)
    }

    fn flush(&mut self) -> Result<(), String> {
        let at = self.any();
        let job = Job {
            op: XCOPY_OP_FLUSH,
            flags: 0,
            src: 0,
            dst: self.objects[at].handle,
            methods: 0,
            ranges: Vec::new(),
            bases: None,
        };
        self.submit(&[job], &[Verdict::Done]).map(drop)
    }

    /// Beyond the end of a source, or of a disk: refused, and nothing changes.
    fn beyond(&mut self) -> Result<(), String> {
        let (src, dst) = self.pick_pair();
        let size = self.objects[src].size();
        let length = 1 + self.random.below(4096);
        let src_offset = (size + 1 + self.random.below(4096)).saturating_sub(length);
        let dst_offset = somewhere(&mut self.random, CAP - 8192);
        let mut range = xcopy_range {
            src_offset,
            dst_offset,
            length,
        };
        if !self.objects[dst].is_file && self.random.chance(50) {
            range.src_offset = 0;
            range.dst_offset = CAP + 1 - length.min(CAP);
        }
        let job = self.job(XCOPY_OP_COPY, src, dst, vec![range]);
        self.counts.refused += 1;
        self.submit(&[job], &[Verdict::Refused(libc::EINVAL)])?;
        self.objects[dst].verify(false)
    }

    /// Mostly from a source to a destination, at times the other way round.
    fn pick_pair(&mut self) -> (usize, usize) {
        let src = self.random.below(self.sources as u64) as usize;
        let others = (self.objects.len() - self.sources) as u64;
        let dst = self.sources + self.random.below(others) as usize;
        if self.random.chance(85) {
            (src, dst)
        } else {
            (dst, src)
        }
    }

    fn copy(&mut self) -> Result<(), String> {
        let (src, dst) = self.pick_pair();
        self.copy_between(src, dst)
    }

    /// Within one object: overlaps are refused, all else is done.
    fn within_one(&mut self) -> Result<(), String> {
        let at = self.any();
        self.copy_between(at, at)
    }

    fn copy_between(&mut self, src: usize, dst: usize) -> Result<(), String> {
        let known = self.known[&(src, dst)];
        let most = self.random.pick(&[1, 1, 1, 3, 16, 17, RANGES_MAX]);
        let mut ranges = self.destinations(dst, 0, CAP, most);
        self.sources_of(src, &mut ranges);
        self.cut(&mut ranges);
        let (methods, flags) = self.pick_methods(known);
        let aligned = self.random.chance(50);
        if aligned {
            self.align(&mut ranges, known.granularity.max(4096), src, dst);
        }
        if self.random.chance(4) && ranges.len() > 1 {
            // A destination that is written twice.
            let twin = ranges[self.random.below(ranges.len() as u64) as usize];
            let at = self.random.below(ranges.len() as u64) as usize;
            ranges[at].dst_offset = twin.dst_offset.min(CAP - ranges[at].length);
        }
        let mut job = self.job(XCOPY_OP_COPY, src, dst, ranges);
        (job.methods, job.flags) = (methods, job.flags | flags);
        if self.random.chance(25) {
            job.src = self.objects[src].borrowed;
            job.dst = self.objects[dst].borrowed;
        }
        let verdict = match expect::ranges_overlap(&job.ranges, src == dst) {
            true => expect::refusal(job.ranges.len()),
            false => self.judge(&job, known),
        };
        if verdict == Verdict::Done && self.random.chance(10) {
            job.flags |= XCOPY_REQ_DISJOINT;
        }
        let source = self.objects[src].model.clone();
        let ended = self.submit(std::slice::from_ref(&job), &[verdict])?;
        Self::check_claim(&job, known, &ended[0])
            .map_err(|why| format!("{why}; {}", describe(&job)))?;
        self.apply(dst, &job, verdict, &ended[0], &source)?;
        self.check_object(dst)
    }

    /// Several requests at once, each in a part of the destinations of its own.
    fn several(&mut self) -> Result<(), String> {
        let n = 2 + self.random.below(5);
        let mut jobs = Vec::new();
        let mut targets = Vec::new();
        let part = CAP / n;
        for at in 0..n {
            let src = self.random.below(self.sources as u64) as usize;
            let others = (self.objects.len() - self.sources) as u64;
            let dst = self.sources + self.random.below(others) as usize;
            let most = self.random.pick(&[1, 2, 20]);
            let mut ranges = self.destinations(dst, at * part, part, most);
            self.sources_of(src, &mut ranges);
            self.cut(&mut ranges);
            let known = self.known[&(src, dst)];
            let mut job = self.job(XCOPY_OP_COPY, src, dst, ranges);
            job.methods = match self.random.below(3) {
                0 => 0,
                1 => 1 << XCOPY_METHOD_READ_WRITE | self.pick_methods(known).0,
                _ => self.one_of(known.usable & MOVES),
            };
            jobs.push(job);
            targets.push((src, dst));
        }
        let verdicts = vec![Verdict::Done; jobs.len()];
        let ended = self.submit(&jobs, &verdicts)?;
        self.counts.together += n;
        for ((job, (src, dst)), ended) in jobs.iter().zip(&targets).zip(&ended) {
            let source = self.objects[*src].model.clone();
            self.apply(*dst, job, Verdict::Done, ended, &source)?;
        }
        for (_, dst) in targets {
            self.check_object(dst)?;
        }
        Ok(())
    }

    fn check_object(&mut self, at: usize) -> Result<(), String> {
        self.objects[at].verify(false)?;
        if self.random.chance(5) && self.objects[at].has_direct() {
            self.counts.direct += 1;
            self.objects[at].verify(true)?;
        }
        Ok(())
    }

    fn apply(
        &mut self,
        dst: usize,
        job: &Job,
        verdict: Verdict,
        ended: &Result<Ended, i32>,
        source: &[u8],
    ) -> Result<(), String> {
        let res = ended.as_ref().map_or(0, |ended| ended.completion.res);
        match verdict.decide(res) {
            Verdict::Done => {
                for range in &job.ranges {
                    let from = range.src_offset as usize;
                    let bytes = &source[from..from + range.length as usize];
                    self.objects[dst].put(range.dst_offset, bytes);
                }
                self.count(ended);
            }
            Verdict::Refused(_) | Verdict::Undone(_) => self.counts.refused += 1,
            _ => {
                self.counts.unsupported += 1;
                if let Ok(ended) = ended {
                    expect::settle(job, ended, source, &mut self.objects[dst])?;
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, ended: &Result<Ended, i32>) {
        if let Ok(ended) = ended {
            for share in &ended.report.shares[..ended.report.nshares as usize] {
                *self.counts.methods.entry(share.method).or_default() += u64::from(share.bytes > 0);
            }
        }
    }

    /// Runs requests on a random queue and checks their completions.
    fn submit(
        &mut self,
        jobs: &[Job],
        verdicts: &[Verdict],
    ) -> Result<Vec<Result<Ended, i32>>, String> {
        let queue = self.random.below(QUEUES.len() as u64) as usize;
        self.counts.operations += jobs.len() as u64;
        let ended = self.library.run(queue, jobs)?;
        for ((job, verdict), ended) in jobs.iter().zip(verdicts).zip(&ended) {
            expect::check(job, *verdict, ended).map_err(|why| {
                format!(
                    "{why}; expected {verdict:?} of {} on queue {queue}",
                    describe(job)
                )
            })?;
        }
        Ok(ended)
    }

    fn job(&mut self, op: u16, src: usize, dst: usize, ranges: Vec<xcopy_range>) -> Job {
        let mut flags = 0;
        if op == XCOPY_OP_COPY && self.random.chance(30) {
            flags |= XCOPY_REQ_KEEP_HOLES;
        }
        if self.random.chance(3) {
            flags |= XCOPY_REQ_DURABLE;
        }
        let least = |of: fn(&xcopy_range) -> u64| ranges.iter().map(of).min().unwrap_or(0);
        let bases = (
            least(|range| range.src_offset),
            least(|range| range.dst_offset),
        );
        let bases = (
            if op == XCOPY_OP_ZERO {
                0
            } else {
                self.random.below(bases.0 + 1)
            },
            self.random.below(bases.1 + 1),
        );
        Job {
            op,
            flags,
            src: if op == XCOPY_OP_ZERO {
                0
            } else {
                self.objects[src].handle
            },
            dst: self.objects[dst].handle,
            methods: 0,
            bases: self.random.chance(30).then_some(bases),
            ranges,
        }
    }
}

/// A request in short.
fn describe(job: &Job) -> String {
    format!(
        "op {} flags {:#x} methods {:#x} with {} ranges, the first {:?}",
        job.op,
        job.flags,
        job.methods,
        job.ranges.len(),
        &job.ranges[..job.ranges.len().min(3)]
    )
}
