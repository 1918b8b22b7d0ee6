//! SVG as text: a document that grows element by element, with everything foreign escaped.

use std::fmt::Write as _;

/// A document.
pub(super) struct Svg {
    body: String,
}

/// What colours mean, for light and dark pages alike. Reset by the reader's preference, where the viewer knows it.
const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',Helvetica,Arial,sans-serif;font-size:12px;fill:#1f2933}\
.page{fill:#ffffff}.title{font-size:19px;font-weight:600}.muted{fill:#52606d}\
.grid{stroke:#d7dee5;stroke-width:1}.axis{stroke:#7b8794;stroke-width:1}\
.lead{stroke:#9aa5b1;stroke-width:1;stroke-dasharray:2 3}\
.curve{fill:none;stroke:#17202a;stroke-width:2.2;stroke-linejoin:round}\
.mark{stroke:#ffffff;stroke-width:1.4}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.page{fill:#0d1117}.muted{fill:#9fb0c0}\
.grid{stroke:#29313b}.axis{stroke:#7b8794}.lead{stroke:#6b7885}.curve{stroke:#f0f6fc}.mark{stroke:#0d1117}}";

/// Where a text is held.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    /// An empty page.
    pub(super) fn new() -> Self {
        Self { body: String::new() }
    }

    pub(super) fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, attributes: &str) {
        self.add(format_args!(
            "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" {attributes}/>"
        ));
    }

    pub(super) fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, class: &str) {
        self.add(format_args!(
            "<line x1=\"{x1:.2}\" y1=\"{y1:.2}\" x2=\"{x2:.2}\" y2=\"{y2:.2}\" class=\"{class}\"/>"
        ));
    }

    pub(super) fn text(&mut self, x: f64, y: f64, anchor: Anchor, attributes: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        self.add(format_args!(
            "<text x=\"{x:.2}\" y=\"{y:.2}\" text-anchor=\"{anchor}\" {attributes}>{text}</text>"
        ));
    }

    /// A path, with what a pointer that rests on it is told.
    pub(super) fn path(&mut self, commands: &str, attributes: &str, tooltip: Option<&str>) {
        match tooltip {
            None => self.add(format_args!("<path d=\"{commands}\" {attributes}/>")),
            Some(text) => {
                let text = escape(text);
                self.add(format_args!("<path d=\"{commands}\" {attributes}><title>{text}</title></path>"));
            }
        }
    }

    /// The whole document.
    pub(super) fn finish(self, width: f64, height: f64, title: &str, description: &str) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" role=\"img\" aria-labelledby=\"title desc\">\n\
             <title id=\"title\">{}</title>\n<desc id=\"desc\">{}</desc>\n<style>{STYLE}</style>\n\
             <rect class=\"page\" width=\"{width:.0}\" height=\"{height:.0}\" rx=\"8\"/>\n{}</svg>\n",
            escape(title),
            escape(description),
            self.body
        )
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.body, "{element}");
    }
}

/// Text as it may stand between tags and in attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // XML knows no others.
            c if c.is_control() => {}
            c => escaped.push(c),
        }
    }
    escaped
}
