//! `mote security`

use std::collections::BTreeMap;

use clap::Args;
use mote_engine::Layer;
use mote_image::{Overrides, Source, Stored};
use mote_spec::{
    Asks, Isolation, Mechanism, Policy, Standing, Surroundings, Weights, decide, isolation_level,
    isolation_levels, security_score, standings,
};
use serde_json::{Value, json};

use crate::app::App;
use crate::args::{self, BareName, GrantArgs, LimitArgs};
use crate::error::CliError;
use crate::fetch;
use crate::find::{self, Host};
use crate::output;

/// Show what stands between a container and this machine, and what would harden it
///
/// Of a container, what it has; of an image, what `mote run` with the same flags would give it; and without a
/// name, what any program would have. Each mechanism has a weight; the security score is the weighted sum of
/// those in force, of 100, and the isolation level that of the weakest dimension. The configuration's
/// [security.weights] changes weights.
///
/// Exit codes: 0; 1 if the score is below --threshold, or process=strict could not start here; 127 not found.
#[derive(Args, Debug)]
pub(crate) struct SecurityArgs {
    /// Fail if the score is below this, for CI and admission
    #[arg(long, value_name = "SCORE", value_parser = clap::value_parser!(u32).range(0..=100))]
    threshold: Option<u32>,
    /// Print as json, or by a template such as '{{.Score}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Container, image or file
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    grants: GrantArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

/// What is looked at.
struct Subject {
    name: String,
    policy: Policy,
    host: Surroundings,
}

impl SecurityArgs {
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        let SecurityArgs { threshold, format, name, grants, limits } = self;
        let request = args::request(grants, limits, Asks::default(), BareName::Folder)?;
        let of_run = |name: &str, asks: &Asks| -> Result<Subject, CliError> {
            let policy = decide(request.clone(), asks, &app.machine.ceiling)?;
            Ok(Subject { name: name.to_owned(), policy, host: of_a_host() })
        };
        let subject = match name.as_deref() {
            None => of_run("a program of `mote run`", &Asks::default())?,
            Some(name) => match container(app, name)? {
                Some(subject) => subject,
                None => match name.parse::<Source>() {
                    Ok(Source::File(path)) if path.exists() => of_run(name, &Asks::default())?,
                    Ok(Source::File(path)) => {
                        let message = format!("no file {} is here", path.display());
                        return Err(CliError::not_found(message));
                    }
                    Ok(_) | Err(_) => of_run(name, &asks(app, name)?)?,
                },
            },
        };
        let all = standings(&subject.policy, &subject.host);
        let report = Report { subject: &subject, standings: &all, weights: app.config.weights() };
        match format.as_deref() {
            None => report.print(),
            Some("json") => output::json(&report.document())?,
            Some(_) => output::documents(format.as_deref(), &[report.document()])?,
        }
        let is_strict = subject.policy.security().isolation == Isolation::Strict;
        if is_strict && !subject.host.lacks.is_empty() {
            let lacks: Vec<String> = subject.host.lacks.keys().map(ToString::to_string).collect();
            output::note(&format!(
                "it would not start here: process=strict, and no {}",
                lacks.join(", ")
            ));
            return Ok(1);
        }
        let is_below = threshold.is_some_and(|least| report.score() < least);
        Ok(u8::from(is_below))
    }
}

/// A container of a terminal or of the daemon, if there is one of that name.
fn container(app: &App, name: &str) -> Result<Option<Subject>, CliError> {
    let (policy, host) = match find::host(app, name) {
        Ok(Host::Terminal(record)) => (record.policy.clone(), of_a_host()),
        Ok(Host::Daemon(client)) => {
            let Ok(about) = client.get(&find::path(name, "/json")) else { return Ok(None) };
            let policy = serde_json::from_value(about["Mote"]["Policy"].clone());
            let policy =
                policy.map_err(|error| CliError::new(format!("the daemon's answer: {error}")))?;
            (policy, of_a_host())
        }
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(Subject { name: name.to_owned(), policy, host }))
}

/// What an image asks for.
fn asks(app: &App, name: &str) -> Result<Asks, CliError> {
    let store = app.store()?;
    let image: Stored = fetch::find(&store, name)?;
    let lease = store.lease()?;
    let artifact = mote_image::open(&store, &lease, &image, Overrides::default())?;
    Ok(Asks::from_annotations(&artifact.annotations)?)
}

/// The process of `mote run`, or the daemon's: both give up what they do not need before a guest begins.
fn of_a_host() -> Surroundings {
    Surroundings {
        is_hardened: true,
        is_unprivileged: !rustix::process::geteuid().is_root(),
        lacks: lacking(),
    }
}

/// What this machine lacks, and what each layer needs.
fn lacking() -> BTreeMap<Mechanism, String> {
    let named = |layer: Layer| {
        let mechanism = match layer {
            Layer::Landlock => Mechanism::Landlock,
            Layer::LandlockPorts => Mechanism::LandlockPorts,
            Layer::LandlockScope => Mechanism::LandlockScope,
            Layer::Namespaces => Mechanism::Namespaces,
            Layer::Cgroup => Mechanism::Cgroup,
            Layer::Seccomp => Mechanism::Seccomp,
        };
        (mechanism, layer.needs().to_owned())
    };
    mote_engine::lacking_layers().into_iter().map(named).collect()
}

struct Report<'a> {
    subject: &'a Subject,
    standings: &'a [Standing],
    weights: Weights,
}

impl Report<'_> {
    fn score(&self) -> u32 {
        security_score(self.standings, &self.weights)
    }

    fn weight(&self, mechanism: Mechanism) -> u32 {
        self.weights.get(&mechanism).copied().unwrap_or_else(|| mechanism.weight())
    }

    fn document(&self) -> Value {
        let levels = isolation_levels(self.standings, &self.weights);
        let dimensions: serde_json::Map<String, Value> = levels
            .iter()
            .map(|(dimension, level)| (format!("{dimension:?}").to_lowercase(), json!(level)))
            .collect();
        let mechanisms: Vec<Value> = self
            .standings
            .iter()
            .map(|standing| {
                json!({
                    "Name": standing.mechanism.to_string(),
                    "Says": standing.mechanism.says(),
                    "Weight": self.weight(standing.mechanism),
                    "Strength": standing.strength,
                    "Hint": standing.hint,
                })
            })
            .collect();
        json!({
            "Subject": self.subject.name,
            "Isolation": self.subject.policy.security().isolation.to_string(),
            "IsolationLevel": isolation_level(&levels),
            "IsolationLevels": dimensions,
            "Score": self.score(),
            "Mechanisms": mechanisms,
        })
    }

    fn print(&self) {
        output::line(&format!("  {:<16} {:>6}  {}", "MECHANISM", "WEIGHT", "IN FORCE"));
        for standing in self.standings {
            let mark = match standing.strength {
                none if none <= 0.0 => "✗",
                all if all >= 1.0 => "✓",
                _ => "~",
            };
            let weight = self.weight(standing.mechanism);
            let (name, says) = (standing.mechanism.to_string(), standing.mechanism.says());
            output::line(&format!("{mark} {name:<16} {weight:>6}  {says}"));
            if let Some(hint) = &standing.hint {
                output::line(&format!("  {:<16} {:>6}    harden it: {hint}", "", ""));
            }
        }
        let levels = isolation_levels(self.standings, &self.weights);
        let words: Vec<String> = levels
            .iter()
            .map(|(dimension, level)| {
                format!("{} {level:.2}", format!("{dimension:?}").to_lowercase())
            })
            .collect();
        output::line("");
        output::line(&format!(
            "Isolation level of {}: {:.2} ({})",
            self.subject.name,
            isolation_level(&levels),
            words.join(", ")
        ));
        output::line(&format!("Security score: {} of 100", self.score()));
    }
}
