//! The pictures for the README.

use crate::{
    contestants::PEER,
    latency::{NOTHING, OURS},
    report::{count, time},
    results::{Hits, Latency, Run, Scale, Scenario, Size},
    scale,
    svg::{Anchor, FAINT, INK, Log, Svg},
};

const ORANGE: &str = "#e8590c";
const BLUE: &str = "#2f81d8";
const GREEN: &str = "#2f9e44";
const VIOLET: &str = "#b04fd0";

fn color(name: &str) -> &'static str {
    match name.split('.').next() {
        Some(OURS) => ORANGE,
        Some(PEER) => BLUE,
        Some("moka") => GREEN,
        Some("quick_cache") => VIOLET,
        _ => INK,
    }
}

/// Nanoseconds a hit, by contestant, the quickest first.
pub(crate) fn hits(hits: &Hits) -> String {
    const ROW: f64 = 24.0;
    const LEFT: f64 = 232.0;
    const WIDTH: f64 = 820.0;
    let mut rows: Vec<(&str, f64)> = hits.hit_ns.iter().map(|(name, ns)| (name.as_str(), *ns)).collect();
    rows.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    let most = rows.last().map_or(1.0, |(_, ns)| *ns);
    let mut svg =
        Svg::new(WIDTH, 56.0 + rows.len() as f64 * ROW, "Nanoseconds for a cached token, by library");
    svg.heading((8.0, 22.0), "A cached token: nanoseconds a hit, on one thread");
    for (at, (name, ns)) in rows.iter().enumerate() {
        let top = 40.0 + at as f64 * ROW;
        let length = (ns / most * (WIDTH - LEFT - 56.0)).max(1.0);
        let text = if name.starts_with(OURS) { ORANGE } else { INK };
        svg.text((LEFT - 8.0, top + 14.0), Anchor::End, text, name);
        svg.bar((LEFT, top + 2.0), length, ROW - 8.0, color(name));
        svg.text((LEFT + length + 6.0, top + 14.0), Anchor::Start, text, &format!("{ns:.0}"));
    }
    svg.finish()
}

/// Nanoseconds a hit by number of keys.
pub(crate) fn scaling(scale: &Scale) -> String {
    const RIGHT: f64 = 520.0;
    const BOTTOM: f64 = 330.0;
    let mut svg = Svg::new(720.0, 370.0, "Nanoseconds for a cached token, by number of keys");
    svg.heading((8.0, 22.0), "Keys read at random: nanoseconds a hit, on one thread");
    let figures = || scale.sizes.iter().flat_map(|size| size.hit_ns.values().copied());
    let keys = || scale.sizes.iter().map(|size| size.keys as f64);
    let up = Log::new(
        (figures().fold(f64::INFINITY, f64::min) * 0.8, figures().fold(1.0, f64::max) * 1.25),
        (BOTTOM, 44.0),
    );
    let along =
        Log::new((keys().fold(f64::INFINITY, f64::min), keys().fold(1.0, f64::max)), (64.0, RIGHT - 24.0));
    for ns in up.decades().flat_map(|decade| [decade, 2.0 * decade, 5.0 * decade]) {
        if (44.5..BOTTOM - 0.5).contains(&up.at(ns)) {
            svg.line((48.0, up.at(ns)), (RIGHT, up.at(ns)), FAINT);
            svg.text((42.0, up.at(ns) + 4.0), Anchor::End, INK, &count(ns as u64));
        }
    }
    for size in &scale.sizes {
        let x = along.at(size.keys as f64);
        svg.text((x, BOTTOM + 24.0), Anchor::Middle, INK, &format!("{} keys", count(size.keys as u64)));
    }
    let mut ends = Vec::new();
    for (name, _) in scale::WHAT {
        let place = |size: &Size| Some((along.at(size.keys as f64), up.at(*size.hit_ns.get(*name)?)));
        let points: Vec<(f64, f64)> = scale.sizes.iter().filter_map(place).collect();
        svg.path(&points, color(name), name.ends_with(".str"));
        points.iter().for_each(|point| svg.dot(*point, color(name)));
        let last = scale.sizes.last().and_then(|size| size.hit_ns.get(*name));
        if let (Some((_, y)), Some(ns)) = (points.last(), last) {
            ends.push((*y, format!("{name}, {}", count(*ns as u64)), color(name)));
        }
    }
    for (y, text, color) in apart(ends) {
        svg.text((RIGHT - 8.0, y + 4.0), Anchor::Start, color, &text);
    }
    svg.finish()
}

/// Labels that would lie upon each other, moved down.
fn apart(mut labels: Vec<(f64, String, &str)>) -> Vec<(f64, String, &str)> {
    labels.sort_by(|(one, ..), (other, ..)| one.total_cmp(other));
    let mut above = f64::NEG_INFINITY;
    for (y, ..) in &mut labels {
        *y = y.max(above + 16.0);
        above = *y;
    }
    labels
}

/// How long the slowest of so many calls took, while tokens are refreshed.
pub(crate) fn refresh(latency: &Latency) -> String {
    const WIDTH: f64 = 430.0;
    const HEIGHT: f64 = 264.0;
    let shown = latency.scenarios.len();
    let rows = (shown + 1).div_ceil(2);
    let mut svg = Svg::new(
        2.0 * WIDTH,
        36.0 + rows as f64 * HEIGHT,
        "Latency of calls across a refresh, of entra_broker and azure_identity",
    );
    svg.heading((8.0, 22.0), "Calls while tokens are refreshed: of so many, one takes at least so long");
    let nothing = latency.scenarios.iter().find_map(|scenario| scenario.runs.get(NOTHING));
    for (at, scenario) in latency.scenarios.iter().enumerate() {
        let corner = ((at % 2) as f64 * WIDTH, 36.0 + (at / 2) as f64 * HEIGHT);
        panel(&mut svg, corner, (WIDTH, HEIGHT), scenario, nothing.map(|run| run.curve.as_slice()));
    }
    let (x, y) = ((shown % 2) as f64 * WIDTH + 56.0, 36.0 + (shown / 2) as f64 * HEIGHT + 60.0);
    let legend = [
        (ORANGE, "entra_broker"),
        (BLUE, "azure_identity"),
        (INK, "no call at all: what the machine does by itself"),
    ];
    for (at, (color, text)) in legend.into_iter().enumerate() {
        let y = y + at as f64 * 24.0;
        svg.path(&[(x, y - 4.0), (x + 28.0, y - 4.0)], color, color == INK);
        svg.text((x + 36.0, y), Anchor::Start, color, text);
    }
    let text = format!("{} tasks ask all the time, on two threads.", latency.tasks);
    svg.text((x, y + 84.0), Anchor::Start, INK, &text);
    svg.finish()
}

fn panel(
    svg: &mut Svg,
    (left, top): (f64, f64),
    (width, height): (f64, f64),
    scenario: &Scenario,
    nothing: Option<&[(u64, u64)]>,
) {
    svg.text((left + 56.0, top + 16.0), Anchor::Start, INK, &format!("Token service: {}", scenario.name));
    let (right, bottom) = (left + width - 16.0, top + height - 34.0);
    let up = Log::new((10.0, 1e10), (bottom, top + 58.0));
    let along = Log::new((2.0, 2e9), (left + 56.0, right));
    for ns in up.decades().step_by(2) {
        svg.line((left + 56.0, up.at(ns)), (right, up.at(ns)), FAINT);
        svg.text((left + 50.0, up.at(ns) + 4.0), Anchor::End, INK, &time(ns));
    }
    for calls in along.decades().step_by(2) {
        svg.text((along.at(calls), bottom + 16.0), Anchor::Middle, INK, &short_count(calls as u64));
    }
    let mut draw = |curve: &[(u64, u64)], color: &str, dashed| {
        let points: Vec<(f64, f64)> =
            curve.iter().map(|(calls, ns)| (along.at(*calls as f64), up.at(*ns as f64))).collect();
        svg.path(&points, color, dashed);
    };
    if let Some(curve) = nothing {
        draw(curve, INK, true);
    }
    for (name, color) in [(PEER, BLUE), (OURS, ORANGE)] {
        if let Some(run) = scenario.runs.get(name) {
            draw(&run.curve, color, false);
        }
    }
    for (name, color, y) in [(OURS, ORANGE, 32.0), (PEER, BLUE, 48.0)] {
        if let Some(run) = scenario.runs.get(name) {
            svg.text((left + 56.0, top + y), Anchor::Start, color, &waited(run));
        }
    }
}

/// How many calls had to wait.
fn waited(run: &Run) -> String {
    let mut text = format!("{} of {} calls waited", count(run.waited), short_count(run.calls));
    match run.waited_before_last_call {
        _ if run.waited == 0 => {}
        Some(before) => text += &format!(", {} before the last call", count(before)),
        None => text += &format!(", the longest for {}", time(run.max_ns as f64)),
    }
    text
}

/// Millions as such.
fn short_count(calls: u64) -> String {
    match calls {
        ..1_000_000 => count(calls),
        _ => format!("{} M", count(calls / 1_000_000)),
    }
}
