//! A picture of text, lines and bars. By hand, because it is little: what is drawn here has to be legible on white and on
//! black, in the reader's own font, and a plotting library draws for a page of its own.

use std::fmt::Write as _;

/// Readable on white as on black.
pub(crate) const INK: &str = "#77808a";

/// For lines that are only to guide the eye.
pub(crate) const FAINT: &str = "#77808a55";

#[derive(Debug, Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

pub(crate) struct Svg {
    width: f64,
    height: f64,
    title: String,
    body: String,
}

impl Svg {
    pub(crate) fn new(width: f64, height: f64, title: &str) -> Self {
        Self { width, height, title: escaped(title), body: String::new() }
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.body.write_fmt(element);
        self.body.push('\n');
    }

    pub(crate) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, color: &str, text: &str) {
        let (anchor, text) = (anchor.name(), escaped(text));
        self.push(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="{color}">{text}</text>"#
        ));
    }

    pub(crate) fn heading(&mut self, (x, y): (f64, f64), text: &str) {
        let text = escaped(text);
        self.push(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" fill="{INK}" font-weight="600" font-size="14">{text}</text>"#
        ));
    }

    pub(crate) fn bar(&mut self, (x, y): (f64, f64), width: f64, height: f64, color: &str) {
        self.push(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="2" fill="{color}"/>"#
        ));
    }

    pub(crate) fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), color: &str) {
        self.push(format_args!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{color}"/>"#
        ));
    }

    pub(crate) fn path(&mut self, points: &[(f64, f64)], color: &str, dashed: bool) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let (points, dashes) = (points.join(" "), if dashed { r#" stroke-dasharray="4 4""# } else { "" });
        self.push(format_args!(
            r#"<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2.5" stroke-linejoin="round"{dashes}/>"#
        ));
    }

    pub(crate) fn dot(&mut self, (x, y): (f64, f64), color: &str) {
        self.push(format_args!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="4" fill="{color}"/>"#));
    }

    pub(crate) fn finish(self) -> String {
        let Self { width, height, title, body } = self;
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" font-family="ui-sans-serif, system-ui, sans-serif" font-size="12">
<title>{title}</title>
{body}</svg>
"#
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A logarithmic axis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Log {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Log {
    /// Values `from` to `to` lie between the places `start` and `end`.
    pub(crate) fn new((from, to): (f64, f64), (start, end): (f64, f64)) -> Self {
        Self { from: from.log10(), to: to.log10(), start, end }
    }

    pub(crate) fn at(&self, value: f64) -> f64 {
        let part = (value.log10() - self.from) / (self.to - self.from);
        self.start + part.clamp(0.0, 1.0) * (self.end - self.start)
    }

    /// Powers of ten from one end to the other.
    pub(crate) fn decades(&self) -> impl Iterator<Item = f64> + use<> {
        (self.from.ceil() as i32..=self.to.floor() as i32).map(|power| 10_f64.powi(power))
    }
}
