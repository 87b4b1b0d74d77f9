//! Families of scientific workflows, with the shapes and the run times of executions that the
//! WfCommons project recorded.

use super::recording::{Added, Recording, Spread};

/// A family of scientific workflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Mosaics of the sky in three colour bands: wide levels of short tasks between barriers.
    Montage,
    /// Genome sequences mapped in pipelines of four tasks, merged per lane and then in all.
    Epigenomics,
    /// A search split into equal parts: fork and join.
    Blast,
    /// Mutations in populations: a fork and join per chromosome, each with a fan of readers.
    ThousandGenomes,
    /// Independent deconvolutions and one task that collects them.
    Seismology,
}

impl Family {
    /// All families.
    pub const ALL: [Self; 5] =
        [Self::Montage, Self::Epigenomics, Self::Blast, Self::ThousandGenomes, Self::Seismology];

    /// The name of the family, as a DAG may have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Montage => "montage",
            Self::Epigenomics => "epigenomics",
            Self::Blast => "blast",
            Self::ThousandGenomes => "1000genome",
            Self::Seismology => "seismology",
        }
    }

    /// A WfFormat 1.5 document. `width` is the number of inputs that are worked on side by side
    /// (images of a band, sequences of a lane, parts of a query, individuals of a chromosome,
    /// pairs of signals), at least 2. The same width and seed give the same text.
    ///
    /// A Montage of width 30 has 619 tasks, as the recorded mosaic of a quarter of a degree.
    #[must_use]
    pub fn document(self, width: usize, seed: u64) -> String {
        let width = width.max(2);
        let mut out = Recording::new(seed);
        match self {
            Self::Montage => montage(&mut out, width),
            Self::Epigenomics => epigenomics(&mut out, width),
            Self::Blast => blast(&mut out, width),
            Self::ThousandGenomes => thousand_genomes(&mut out, width),
            Self::Seismology => seismology(&mut out, width),
        }
        out.document(self.as_str())
    }
}

const N_BANDS: usize = 3;

fn montage(out: &mut Recording, width: usize) {
    let mosaics: Vec<Added> = (0..N_BANDS).map(|_| montage_band(out, width)).collect();
    for mosaic in &mosaics {
        out.task("mViewer", [0.35, 0.38, 0.75], &[*mosaic]);
    }
    out.task("mViewer", [0.35, 0.38, 0.75], &mosaics);
}

/// One colour of a mosaic; returns the task that adds its images.
fn montage_band(out: &mut Recording, width: usize) -> Added {
    let projections = many(out, width, "mProject", [11.6, 12.9, 16.3], 14_644_000);
    let mut differences = Vec::new();
    for (left, right) in overlapping(out, width) {
        let images = [projections[left], projections[right]];
        differences.push(out.task("mDiffFit", [0.025, 0.075, 2.07], &images));
    }
    let fit = out.task("mConcatFit", [0.54, 0.63, 0.69], &differences);
    let model = out.task("mBgModel", [5.55, 5.66, 5.86], &[fit]);
    out.memory(model, 137_100_000);
    let corrected: Vec<Added> = projections
        .iter()
        .map(|image| out.task("mBackground", [0.19, 0.3, 1.22], &[*image, model]))
        .collect();
    let table = out.task("mImgtbl", [0.16, 0.17, 0.2], &corrected);
    let parents: Vec<Added> = corrected.into_iter().chain([table]).collect();
    out.task("mAdd", [0.26, 0.27, 0.27], &parents)
}

/// Pairs of images that overlap: each with its next ones, and 4.7 in all per image, as recorded.
fn overlapping(out: &mut Recording, width: usize) -> Vec<(usize, usize)> {
    let near = (1..=8).flat_map(|step| (step..width).map(move |right| (right - step, right)));
    let mut pairs: Vec<(usize, usize)> = near.collect();
    out.random().shuffle(&mut pairs);
    pairs.truncate(width * 47 / 10);
    pairs
}

const N_LANES: usize = 2;

fn epigenomics(out: &mut Recording, width: usize) {
    let lanes: Vec<Added> = (0..N_LANES).map(|_| epigenomics_lane(out, width)).collect();
    let merged = out.task("mapMerge", [2.1, 3.3, 5.0], &lanes);
    let chromosome = out.task("chr21", [18.3, 32.0, 47.2], &[merged]);
    out.task("pileup", [14.0, 20.0, 26.1], &[chromosome]);
}

/// One lane of the sequencer; returns the task that merges its maps.
fn epigenomics_lane(out: &mut Recording, width: usize) -> Added {
    const STEPS: [(&str, Spread); 4] = [
        ("filterContams", [0.55, 13.5, 18.0]),
        ("sol2sanger", [2.1, 11.1, 12.1]),
        ("fast2bfq", [0.38, 1.15, 2.71]),
        ("map", [32.0, 84.6, 88.6]),
    ];
    let split = out.task("fastqSplit", [6.7, 10.0, 16.0], &[]);
    let mut maps = Vec::with_capacity(width);
    for _ in 0..width {
        let mut last = split;
        for (kind, spread) in STEPS {
            last = out.task(kind, spread, &[last]);
        }
        maps.push(last);
    }
    out.task("mapMerge", [2.1, 3.3, 5.0], &maps)
}

fn blast(out: &mut Recording, width: usize) {
    let split = out.task("split_fasta", [0.04, 0.055, 0.07], &[]);
    out.memory(split, 3_000_000);
    let mut searches = Vec::with_capacity(width);
    for _ in 0..width {
        let search = out.task("blastall", [8.35, 9.37, 11.05], &[split]);
        out.memory(search, 554_000_000);
        searches.push(search);
    }
    for (kind, spread) in [("cat_blast", [0.03, 0.043, 0.06]), ("cat", [0.005, 0.01, 0.02])] {
        let joined = out.task(kind, spread, &searches);
        out.memory(joined, 3_000_000);
    }
}

const N_CHROMOSOMES: usize = 4;
const N_POPULATIONS: usize = 7;

fn thousand_genomes(out: &mut Recording, width: usize) {
    for _ in 0..N_CHROMOSOMES {
        let individuals = many(out, width, "individuals", [50.1, 97.8, 124.8], 0);
        let merged = out.task("individuals_merge", [39.2, 80.0, 102.4], &individuals);
        let sifted = out.task("sifting", [1.4, 4.8, 12.7], &[]);
        for _ in 0..N_POPULATIONS {
            out.task("mutation_overlap", [1.7, 11.2, 60.1], &[merged, sifted]);
            out.task("frequency", [78.5, 153.3, 165.7], &[merged, sifted]);
        }
    }
}

fn seismology(out: &mut Recording, width: usize) {
    let signals = many(out, width, "sG1IterDecon", [0.096, 0.47, 4.39], 0);
    out.task("wrapper_siftSTFByMisfit", [0.1, 0.14, 0.2], &signals);
}

/// Tasks without dependencies. No memory is recorded for 0 bytes.
fn many(out: &mut Recording, n: usize, kind: &str, spread: Spread, bytes: u64) -> Vec<Added> {
    let mut added = Vec::with_capacity(n);
    for _ in 0..n {
        let task = out.task(kind, spread, &[]);
        if bytes > 0 {
            out.memory(task, bytes);
        }
        added.push(task);
    }
    added
}
