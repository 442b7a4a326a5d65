//! A QR code as inline SVG: one path, no styles, so that the strictest content security policy shows it.

use std::fmt::Write as _;

use qrcode::{Color, EcLevel, QrCode};

/// Modules of silence on each side (ISO/IEC 18004 section 9.1).
const QUIET: usize = 4;

/// The text as an SVG element, or nothing when it does not fit a code.
pub(super) fn svg(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
    let (width, colors) = (code.width(), code.to_colors());
    let mut path = String::new();
    for (y, row) in colors.chunks(width).enumerate() {
        let mut x = 0;
        while x < width {
            let dark = row[x..].iter().take_while(|color| **color == Color::Dark).count();
            if dark > 0 {
                let _infallible = write!(path, "M{} {}h{dark}v1h-{dark}z", x + QUIET, y + QUIET);
            }
            x += dark.max(1);
        }
    }
    let side = width + 2 * QUIET;
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" role=\"img\" \
         aria-label=\"QR code with the secret for your authenticator\" shape-rendering=\"crispEdges\">\
         <path fill=\"#fff\" d=\"M0 0h{side}v{side}h-{side}z\"/><path fill=\"#000\" d=\"{path}\"/></svg>"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]

    #[test]
    fn a_code_is_one_square_with_its_quiet_zone() {
        let svg = super::svg("otpauth://totp/Nullius:ada?secret=JBSWY3DPEHPK3PXP&issuer=Nullius")
            .unwrap();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>"));
        assert!(svg.contains("M4 4h7v1h-7z"), "the finder pattern begins after the quiet zone");
        assert!(!svg.contains("style"));
        assert!(super::svg(&"x".repeat(4000)).is_none());
    }
}
