//! What benchmarks make of what they measured: medians, percentiles, plots.

#![allow(dead_code, reason = "each benchmark uses a part")]

use std::time::{Duration, Instant};

pub fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The value that so many of a hundred are below.
pub fn percentile(times: &mut [Duration], of_hundred: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * of_hundred / 100).min(times.len() - 1)]
}

pub fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Some lines over numbers of containers.
pub struct Plot<'a> {
    pub title: &'a str,
    /// What is counted below.
    pub counted: &'a str,
    pub lines: &'a [(&'a str, Vec<(usize, f64)>)],
    /// A value that is not to be crossed, and its name.
    pub limit: Option<(f64, &'a str)>,
}

const COLOURS: [&str; 4] = ["steelblue", "darkorange", "seagreen", "orchid"];

impl Plot<'_> {
    /// Writes it to `target/`, and says so.
    pub fn write(&self, name: &str) {
        let target = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let target = target.map(|folder| folder.join("target")).find(|folder| folder.is_dir());
        let path = target.expect("a target folder").join(name).with_extension("svg");
        std::fs::write(path, self.svg()).expect("the plot is written");
        println!("plot: target/{name}.svg");
    }

    fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let most = points().map(|(count, _)| *count).max().unwrap_or(1).max(1) as f64;
        let highest = points().map(|(_, value)| *value).fold(0.0, f64::max);
        let top = self.limit.map_or(0.0, |(limit, _)| limit).max(highest);
        let x = |count: usize| 60.0 + 500.0 * count as f64 / most;
        let y = |value: f64| 320.0 - 280.0 * value / top;
        let mut drawn = String::new();
        for (number, ((name, points), colour)) in self.lines.iter().zip(COLOURS).enumerate() {
            let line: Vec<String> = points
                .iter()
                .map(|(count, value)| format!("{:.1},{:.1}", x(*count), y(*value)))
                .collect();
            drawn += &format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n\
                 <text x=\"560\" y=\"{}\" text-anchor=\"end\" fill=\"{colour}\">{name}</text>\n",
                line.join(" "),
                56 + 16 * number
            );
        }
        if let Some((limit, name)) = self.limit {
            let at = y(limit);
            drawn += &format!(
                "<line x1=\"60\" x2=\"560\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"red\" stroke-dasharray=\"4\"/>\n\
                 <text x=\"64\" y=\"{at:.1}\" dy=\"-4\" fill=\"red\">{name}</text>\n"
            );
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"600\" height=\"360\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"600\" height=\"360\" fill=\"white\"/>\n\
             <polyline points=\"60,40 60,320 560,320\" fill=\"none\" stroke=\"black\"/>\n{drawn}\
             <text x=\"560\" y=\"340\" text-anchor=\"end\">{most} {}</text>\n\
             <text x=\"60\" y=\"30\">{} ({top:.1} at the top)</text>\n</svg>\n",
            self.counted, self.title
        )
    }
}
