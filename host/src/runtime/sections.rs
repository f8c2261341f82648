//! The sections of a component, read no further than needed to say where something is and how deep it is nested.

/// The magic number, the version and the layer.
const HEADER: usize = 8;
const MODULE: u8 = 1;
const COMPONENT: u8 = 4;

/// Which core module of a component lies at an offset, counted from 0 in the order of the file, those of nested components
/// included.
pub(super) fn module_at(component: &[u8], offset: usize) -> Option<usize> {
    let (mut at, mut modules) = (HEADER, 0);
    while at < offset {
        let Section { id, content, end } = section(component, at)?;
        match id {
            MODULE if offset < end => return Some(modules),
            MODULE => modules += 1,
            // What is in it comes next.
            COMPONENT => {
                at = content.checked_add(HEADER)?;
                continue;
            }
            _ => {}
        }
        at = end;
    }
    None
}

/// How deep components are nested: 1 if there is one. What is no component any more does not count.
pub(super) fn depth(component: &[u8]) -> usize {
    // Where those end that are being read, the innermost last.
    let mut ends = vec![component.len()];
    let (mut at, mut deepest) = (HEADER, 1);
    while let Some(Section { id, content, end }) = section(component, at) {
        while ends.last().is_some_and(|last| at >= *last) {
            ends.pop();
        }
        at = match id {
            COMPONENT => {
                ends.push(end);
                deepest = deepest.max(ends.len());
                content.saturating_add(HEADER)
            }
            _ => end,
        };
    }
    deepest
}

struct Section {
    id: u8,
    content: usize,
    end: usize,
}

fn section(bytes: &[u8], at: usize) -> Option<Section> {
    let id = *bytes.get(at)?;
    let (size, content) = leb128(bytes, at + 1)?;
    let end = content.checked_add(size)?;
    Some(Section { id, content, end })
}

/// An unsigned number, and where it ends.
fn leb128(bytes: &[u8], mut at: usize) -> Option<(usize, usize)> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        number |= usize::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        if byte < 0x80 {
            return Some((number, at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> Vec<u8> {
        let mut inner = Vec::new();
        for _ in 0..depth {
            let mut outer = b"\0asm\x0d\0\x01\0".to_vec();
            if !inner.is_empty() {
                outer.push(COMPONENT);
                let mut size = inner.len();
                while size >= 0x80 {
                    outer.push(u8::try_from(size & 0x7f).unwrap_or(0) | 0x80);
                    size >>= 7;
                }
                outer.push(u8::try_from(size).unwrap_or(0));
                outer.extend(&inner);
            }
            inner = outer;
        }
        inner
    }

    #[test]
    fn the_depth_is_that_of_the_deepest() {
        for depth in 1..40 {
            assert_eq!(super::depth(&nested(depth)), depth);
        }
        let mut two = nested(1);
        for _ in 0..100 {
            // One beside the other.
            two.extend([COMPONENT, 8]);
            two.extend(nested(1));
        }
        assert_eq!(super::depth(&two), 2);
        assert_eq!(super::depth(b"\0asm"), 1);
    }
}
