//! Codecs: what goes in comes out, and what is wrong is refused.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt::Debug;

use wasm_host_sdk::prelude::*;

fn bytes<C: Codec>(value: &C::Borrowed) -> Vec<u8> {
    let mut out = b"before".to_vec();
    C::encode(value, &mut out).unwrap();
    out.split_off(6)
}

fn there_and_back<C: Codec>(value: &C::Borrowed)
where
    C::Borrowed: Debug + PartialEq,
    C::Owned: Clone,
{
    let encoded = bytes::<C>(value);
    let decoded = C::decode(&encoded).unwrap();
    assert_eq!(decoded.borrow(), value);
    let mut place = decoded.clone();
    C::decode_into(&encoded, &mut place).unwrap();
    assert_eq!(place.borrow(), value);
}

fn refused<C: Codec>(bytes: &[u8]) -> String {
    C::decode(bytes).err().unwrap().reason().to_owned()
}

#[test]
fn everything_comes_back() {
    there_and_back::<Raw>(&[0, 255]);
    there_and_back::<Raw>(&[]);
    there_and_back::<Fixed<3>>(&[1, 2, 3]);
    there_and_back::<Str>("žluťoučký");
    there_and_back::<I64>(&i64::MIN);
    there_and_back::<Json<u64>>(&u64::MAX);
    there_and_back::<Json<i64>>(&i64::MIN);
    there_and_back::<Json<BTreeMap<String, Option<f64>>>>(&BTreeMap::from([
        ("a".to_owned(), Some(0.1 + 0.2)),
        ("b".to_owned(), None),
    ]));
    there_and_back::<Postcard<(String, u64, Option<i8>)>>(&("x".to_owned(), u64::MAX, Some(-1)));
    // A float whose shortest decimal is read wrongly by a parser that cuts corners.
    there_and_back::<Json<f64>>(&2.638_344_616_030_823_6e-256);
}

#[test]
fn a_counter_is_eight_bytes_little_endian() {
    assert_eq!(
        bytes::<I64>(&-2),
        [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]
    );
    assert_eq!(refused::<I64>(b"1234567"), "7 bytes where 8 were expected");
}

#[test]
fn ordered_integers_sort_as_their_bytes() {
    fn check<T: Ord + Copy + Debug + 'static>(ascending: &[T])
    where
        Ordered<T>: Codec<Borrowed = T, Owned = T>,
    {
        for pair in ascending.windows(2) {
            assert!(
                bytes::<Ordered<T>>(&pair[0]) < bytes::<Ordered<T>>(&pair[1]),
                "{pair:?}"
            );
        }
        ascending.iter().for_each(|value| {
            assert_eq!(
                Ordered::<T>::decode(&bytes::<Ordered<T>>(value)).unwrap(),
                *value
            )
        });
    }
    check(&[i64::MIN, -256, -1, 0, 1, 255, 256, i64::MAX]);
    check(&[i32::MIN, -1, 0, i32::MAX]);
    check(&[0, 1, 256, u64::MAX]);
    check(&[0, 255, 65536, u32::MAX]);
}

#[test]
fn what_is_wrong_is_refused() {
    assert!(refused::<Str>(&[0xff]).starts_with("invalid utf-8"));
    assert_eq!(
        refused::<Fixed<4>>(b"12345"),
        "5 bytes where 4 were expected"
    );
    assert_eq!(
        refused::<Postcard<u8>>(&[1, 2]),
        "1 bytes are left over after the value"
    );
    assert!(refused::<Json<u8>>(b"1 2").starts_with("trailing characters"));
    assert!(refused::<Json<u64>>(b"18446744073709551616").contains("expected u64"));
}
