// Package types holds the types of WIT that Go has none for. The bindings import it by this path; it has what those of the
// worlds in wit/ use.
package types

// The tags of an Option.
const (
	OptionNone = 0
	OptionSome = 1
)

// Option is an option<T>. Its zero value is none.
type Option[T any] struct {
	some  bool
	value T
}

// Some is an option with a value.
func Some[T any](value T) Option[T] { return Option[T]{true, value} }

// None is an option without one.
func None[T any]() Option[T] { return Option[T]{} }

// Tag is OptionNone or OptionSome.
func (o Option[T]) Tag() uint8 {
	if o.some {
		return OptionSome
	}
	return OptionNone
}

// IsSome says whether there is a value.
func (o Option[T]) IsSome() bool { return o.some }

// Some is the value, which must be there.
func (o Option[T]) Some() T {
	if !o.some {
		panic("the option is none")
	}
	return o.value
}

// SomeOr is the value, or another where there is none.
func (o Option[T]) SomeOr(other T) T {
	if !o.some {
		return other
	}
	return o.value
}

// The tags of a Result.
const (
	ResultOk  = 0
	ResultErr = 1
)

// Result is a result<T, E>.
type Result[T, E any] struct {
	tag uint8
	ok  T
	err E
}

// Ok is a result that is no error.
func Ok[T, E any](value T) Result[T, E] { return Result[T, E]{tag: ResultOk, ok: value} }

// Err is a result that is an error.
func Err[T, E any](err E) Result[T, E] { return Result[T, E]{tag: ResultErr, err: err} }

// Tag is ResultOk or ResultErr.
func (r Result[T, E]) Tag() uint8 { return r.tag }

// IsErr says whether it is an error.
func (r Result[T, E]) IsErr() bool { return r.tag == ResultErr }

// Ok is the value of a result that must not be an error.
func (r Result[T, E]) Ok() T {
	if r.tag != ResultOk {
		panic("the result is an error")
	}
	return r.ok
}

// Err is the error of a result that must be one.
func (r Result[T, E]) Err() E {
	if r.tag != ResultErr {
		panic("the result is no error")
	}
	return r.err
}

// Unit is the value of a result without one.
type Unit struct{}

// Tuple2 is a tuple<A, B>.
type Tuple2[A, B any] struct {
	F0 A
	F1 B
}
