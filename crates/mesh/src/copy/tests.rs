use super::size_after;

#[test]
fn buffers_grow_with_what_passes() {
    let sizes = [0, (128 << 10) - 1, 128 << 10, (10 << 20) - 1, 10 << 20, u64::MAX].map(size_after);
    assert_eq!(sizes, [1 << 10, 1 << 10, 16 << 10, 16 << 10, 256 << 10, 256 << 10]);
}
