//! How typed keys and values become bytes: one marker type for each format.

use std::borrow::Borrow;
use std::fmt::Display;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;
use crate::column::append;

/// A format for keys or values.
///
/// A codec is a marker: it names the type that callers pass ([`Borrowed`](Self::Borrowed)), the type they get
/// ([`Owned`](Self::Owned)) and the bytes between. Implement it for a format of your own.
pub trait Codec: 'static {
    /// What is given by reference to be encoded: `str` for [`Str`], `T` for [`Json<T>`](Json).
    type Borrowed: ?Sized;

    /// What bytes become: `String` for [`Str`], `T` for [`Json<T>`](Json).
    type Owned: Borrow<Self::Borrowed> + 'static;

    /// Whether [`decode_into`](Self::decode_into) spares an allocation, so that decoded values are worth keeping.
    const REUSES: bool = false;

    /// Appends the bytes of a value. After an error the caller drops what was appended.
    fn encode(value: &Self::Borrowed, out: &mut Vec<u8>) -> Result<(), Error>;

    /// Reads a value from all of the bytes.
    fn decode(bytes: &[u8]) -> Result<Self::Owned, Error>;

    /// Reads a value into the place of another, whose memory it may use.
    fn decode_into(bytes: &[u8], place: &mut Self::Owned) -> Result<(), Error> {
        *place = Self::decode(bytes)?;
        Ok(())
    }
}

/// Bytes as they are.
pub struct Raw(());

impl Codec for Raw {
    type Borrowed = [u8];
    type Owned = Vec<u8>;
    const REUSES: bool = true;

    #[inline]
    fn encode(value: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        append(out, value);
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(bytes.to_vec())
    }

    fn decode_into(bytes: &[u8], place: &mut Vec<u8>) -> Result<(), Error> {
        place.clear();
        append(place, bytes);
        Ok(())
    }
}

/// Exactly `N` bytes, on the stack.
pub struct Fixed<const N: usize>(());

impl<const N: usize> Codec for Fixed<N> {
    type Borrowed = [u8; N];
    type Owned = [u8; N];

    #[inline]
    fn encode(value: &[u8; N], out: &mut Vec<u8>) -> Result<(), Error> {
        out.extend_from_slice(value);
        Ok(())
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Result<[u8; N], Error> {
        exactly(bytes)
    }
}

/// UTF-8 text.
pub struct Str(());

impl Codec for Str {
    type Borrowed = str;
    type Owned = String;
    const REUSES: bool = true;

    #[inline]
    fn encode(value: &str, out: &mut Vec<u8>) -> Result<(), Error> {
        append(out, value.as_bytes());
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<String, Error> {
        Ok(str::from_utf8(bytes)?.to_owned())
    }

    fn decode_into(bytes: &[u8], place: &mut String) -> Result<(), Error> {
        let text = str::from_utf8(bytes)?;
        place.clear();
        place.push_str(text);
        Ok(())
    }
}

/// JSON by serde. Integers keep all 64 bits and a float reads back as it was written; an integer beyond 64 bits read as
/// `serde_json::Value` is the one thing that becomes a float.
pub struct Json<T>(PhantomData<fn() -> T>);

impl<T: Serialize + DeserializeOwned + 'static> Codec for Json<T> {
    type Borrowed = T;
    type Owned = T;

    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
        Ok(serde_json::to_writer(out, value)?)
    }

    fn decode(bytes: &[u8]) -> Result<T, Error> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// Postcard by serde: compact and fast, and readable only by code that knows the type. Bytes after the value are an error.
pub struct Postcard<T>(PhantomData<fn() -> T>);

impl<T: Serialize + DeserializeOwned + 'static> Codec for Postcard<T> {
    type Borrowed = T;
    type Owned = T;

    #[inline]
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
        Ok(postcard::serialize_with_flavor(value, Tail(out))?)
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Result<T, Error> {
        match postcard::take_from_bytes(bytes)? {
            (value, []) => Ok(value),
            (_, rest) => Err(Error::new(format!(
                "{} bytes are left over after the value",
                rest.len()
            ))),
        }
    }
}

/// Serializes onto the end of a buffer that holds other things.
struct Tail<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Tail<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        append(self.0, bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// A counter: 8 bytes, a signed integer, little-endian. The format of [`Store::increment`](crate::Store::increment).
pub struct I64(());

impl Codec for I64 {
    type Borrowed = i64;
    type Owned = i64;

    #[inline]
    fn encode(value: &i64, out: &mut Vec<u8>) -> Result<(), Error> {
        out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Result<i64, Error> {
        exactly(bytes).map(i64::from_le_bytes)
    }
}

/// An integer whose bytes sort as its value does, for keys that are scanned in order: big-endian, with the sign bit of a
/// signed one flipped. For `u32`, `u64`, `i32` and `i64`.
pub struct Ordered<T>(PhantomData<fn() -> T>);

macro_rules! ordered {
    ($($int:ty, $flip:expr);+ $(;)?) => {$(
        impl Codec for Ordered<$int> {
            type Borrowed = $int;
            type Owned = $int;

            #[inline]
            fn encode(value: &$int, out: &mut Vec<u8>) -> Result<(), Error> {
                out.extend_from_slice(&(*value ^ $flip).to_be_bytes());
                Ok(())
            }

            #[inline]
            fn decode(bytes: &[u8]) -> Result<$int, Error> {
                exactly(bytes).map(|bytes| <$int>::from_be_bytes(bytes) ^ $flip)
            }
        }
    )+};
}

ordered! {
    u32, 0;
    u64, 0;
    i32, i32::MIN;
    i64, i64::MIN;
}

fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Error> {
    bytes
        .try_into()
        .map_err(|_| Error::new(format!("{} bytes where {N} were expected", bytes.len())))
}

/// Decodes; an error names what the bytes were for.
pub(crate) fn decode<C: Codec>(bytes: &[u8], what: impl Display) -> Result<C::Owned, Error> {
    C::decode(bytes).map_err(|error| error.context(what))
}
