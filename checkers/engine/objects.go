package main

import "fmt"

// The verifier's own objects, as plain as can be: what each model is when operations come one after the other.

type object interface {
	// apply tells whether an operation could have answered what it did, and lets it take effect. failed: it
	// failed, and is there because that shows what it met.
	apply(h *history, o *op, failed bool) (bool, error)
}

func newObject(m model) object {
	switch {
	case m.table != nil:
		return &tableObject{m, m.table.Initial}
	case m.name == "kv":
		return mapObject{}
	case m.compile != nil:
		return &fenceObject{}
	case m.register:
		return &registerObject{m.initial}
	default:
		return &mutexObject{owners: m.owners}
	}
}

type registerObject struct{ value int32 }

func (r *registerObject) apply(_ *history, o *op, failed bool) (bool, error) {
	switch o.f {
	case fRead:
		return o.typ != typOk || r.value == o.result, nil
	case fWrite:
		r.value = o.value
		return true, nil
	case fCas:
		if failed {
			return r.value != o.value, nil
		}
		if r.value != o.value {
			return false, nil
		}
		r.value = o.next
		return true, nil
	}
	return false, errUnknownOp
}

type mutexObject struct {
	owners, taken bool
	owner         int32
}

func (x *mutexObject) apply(_ *history, o *op, _ bool) (bool, error) {
	switch o.f {
	case fAcquire:
		fits := !x.taken
		x.taken, x.owner = true, o.process
		return fits, nil
	case fRelease:
		fits := x.taken && (!x.owners || x.owner == o.process)
		x.taken = false
		return fits, nil
	}
	return false, errUnknownOp
}

type fenceObject struct {
	taken bool
	owner int32
	given bool
	last  int64
}

func (x *fenceObject) apply(h *history, o *op, _ bool) (bool, error) {
	switch o.f {
	case fAcquire:
		fits := !x.taken
		if o.typ == typOk {
			token, err := tokenOf(h.texts[o.result])
			if err != nil {
				return false, err
			}
			fits = fits && (!x.given || token > x.last)
			x.last = token
		} else if x.given {
			x.last++ // a token that nobody saw was at least this
		}
		x.given = x.given || o.typ == typOk
		x.taken, x.owner = true, o.process
		return fits, nil
	case fRelease:
		fits := x.taken && x.owner == o.process
		x.taken = false
		return fits, nil
	}
	return false, errUnknownOp
}

// mapObject is the entries that are there, by canonical text.
type mapObject map[string]string

func (x mapObject) value(sub string) string {
	if v, there := x[sub]; there {
		return v
	}
	return "null"
}

func (x mapObject) apply(h *history, o *op, failed bool) (bool, error) {
	if o.f == fRead {
		if o.typ != typOk {
			return true, nil
		}
		seen, err := members([]byte(h.texts[o.result]))
		if err != nil {
			return false, err
		}
		there := 0
		for _, m := range seen {
			if x.value(m[0]) != m[1] {
				return false, nil
			}
			if m[1] != "null" {
				there++
			}
		}
		return there == len(x), nil
	}
	if o.f != fTxn {
		return false, errUnknownOp
	}
	text := h.texts[o.value]
	if o.typ == typOk {
		text = h.texts[o.result]
	}
	steps, err := parseTxn([]byte(text), o.typ == typOk)
	if err != nil {
		return false, err
	}
	met := true
	for _, s := range steps {
		switch {
		case s.kind == 'c' && x.value(s.sub) != s.want:
			met = false
		case s.kind == 'r' && !failed && s.answered && x.value(s.sub) != s.want:
			return false, nil
		}
	}
	if failed {
		return !met, nil
	}
	for _, s := range steps {
		switch {
		case s.kind == 'r':
		case s.next == "null":
			delete(x, s.sub)
		default:
			x[s.sub] = s.next
		}
	}
	return met, nil
}

type tableObject struct {
	m     model
	state int32
}

func (x *tableObject) apply(h *history, o *op, _ bool) (bool, error) {
	class := x.m.table.classOf(h, x.m, o)
	if class == stuck {
		return false, nil
	}
	next := x.m.table.Next[class][x.state]
	if next == stuck {
		return false, nil
	}
	x.state = next
	return true, nil
}

var errUnknownOp = fmt.Errorf("unknown to the verifier")
