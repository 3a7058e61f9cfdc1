// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"reflect"
	"unsafe"
	"weak"
)

// weakSubject remembers a Subject without keeping its connection's memory alive. The
// standard weak.Pointer needs the concrete type at compile time, which an interface
// hides; so the address is kept as a weak pointer and the type beside it.
type weakSubject struct {
	elem reflect.Type
	ptr  weak.Pointer[byte]
}

// weaken returns the zero weakSubject, which holds nothing, for what is not a pointer.
func weaken(s Subject) weakSubject {
	v := reflect.ValueOf(s)
	if !v.IsValid() || v.Kind() != reflect.Pointer || v.IsNil() || v.Type().Elem().Size() == 0 {
		return weakSubject{}
	}
	return weakSubject{elem: v.Type().Elem(), ptr: weak.Make((*byte)(v.UnsafePointer()))}
}

// subject returns the Subject, or nil when nobody else holds it any more.
func (w weakSubject) subject() Subject {
	p := w.ptr.Value()
	if p == nil {
		return nil
	}
	s, _ := reflect.NewAt(w.elem, unsafe.Pointer(p)).Interface().(Subject) //nolint:gosec // a weak pointer's target, of the type that it was made from
	return s
}
