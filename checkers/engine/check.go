package main

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Checking key by key (linearizability is local: Herlihy and Wing 1990), in parallel, small keys
// first, so that one that exhausts a limit costs the fewest others their verdict.

const (
	shownKeys = 20     // violating keys whose whole sub-history is reported
	shownOps  = 10_000 // operations of such a sub-history, around its window
	shownOpen = 100    // assumed operations of one violation
)

type limits struct {
	start    time.Time
	deadline time.Time
	keyTime  time.Duration
	memory   uint64 // bytes
	// keyMemory is what a search on one key may hold, in bytes, by its own account; 0 for no limit of its own.
	keyMemory int64
}

type checker struct {
	h       *history
	m       model
	limits  limits
	engines engines
	out     *output
	witness *witnessFile
	failing atomic.Int32

	mu      sync.Mutex
	running map[int]*job // by place of the key
	decided []bool
	stopped *string // the limit that ended everything
}

func newChecker(h *history, m model, l limits, e engines, out *output, w *witnessFile) *checker {
	return &checker{h: h, m: m, limits: l, engines: e, out: out, witness: w,
		running: map[int]*job{}, decided: make([]bool, len(h.keys))}
}

func (c *checker) run() {
	order := make([]int, len(c.h.keys))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(c.h.of[a]), len(c.h.of[b])) })
	var next atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Add(1)
		go func() {
			defer workers.Done()
			w := &worker{}
			for {
				n := int(next.Add(1)) - 1
				if n >= len(order) {
					return
				}
				c.key(w, order[n])
			}
		}()
	}
	workers.Wait()
}

// key decides one key and reports it.
func (c *checker) key(w *worker, place int) {
	began := time.Now()
	j := &job{deadline: began.Add(c.limits.keyTime)}
	limit := "key-time"
	if j.deadline.After(c.limits.deadline) {
		j.deadline, limit = c.limits.deadline, "time"
	}
	c.mu.Lock()
	c.running[place] = j
	if c.stopped != nil {
		j.giveUp(*c.stopped)
	}
	c.mu.Unlock()

	r := c.decide(w, j, place, limit)
	r.listed = r.verdict == "invalid" && c.failing.Add(1) <= shownKeys
	line := c.line(&r, time.Since(began))

	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.running, place)
	if !c.decided[place] { // the watchdog may have had to speak for it
		c.decided[place] = true
		c.out.line(line)
	}
}

// report is what is known of a key.
type report struct {
	place                  int
	verdict, engine, limit string
	verified               bool // a valid one's witness passed the verifier
	kind                   string
	counterexample
	evidence, source *item
	listed           bool // with the key's other operations
	reached          int  // of an unknown one: completed operations that fit some order, as far as is known
}

// line is the report as one line of the protocol.
func (c *checker) line(r *report, took time.Duration) []byte {
	ops := c.h.of[r.place]
	b := fmt.Appendf(nil, `{"key":%s,"verdict":%q,"engine":%q,"ops":%d,"s":%.6f`,
		c.h.texts[c.h.keys[r.place]], r.verdict, r.engine, len(ops), took.Seconds())
	if r.verdict == "valid" {
		b = fmt.Appendf(b, `,"verified":%t`, r.verified)
	}
	if r.limit != "" {
		b = fmt.Appendf(b, `,"limit":%q,"reached":%d`, r.limit, r.reached)
	}
	if r.verdict == "invalid" {
		b = fmt.Appendf(b, `,"kind":%q,"proven":%t,"confirmed":%t,"from_start":%t,"prefix":%d,"shortest":%t,"culprit":%d`,
			r.kind, r.proven, r.confirmed, r.whole, r.prefix, r.least, c.h.ops[r.culprit.op].invoke)
		if r.evidence != nil {
			b = fmt.Appendf(b, `,"evidence":%d`, c.h.ops[r.evidence.op].invoke)
		}
		if r.source != nil {
			b = fmt.Appendf(b, `,"source":%d`, c.h.ops[r.source.op].invoke)
		}
		b = c.list(b, "window", places(r.forced))
		open := r.assumed
		if len(open) > shownOpen {
			b = fmt.Appendf(b, `,"more_assumed":%d`, len(open)-shownOpen)
			open = open[len(open)-shownOpen:]
		}
		b = c.list(b, "assumed", places(open))
		if r.listed {
			shown := around(ops, r.culprit.op)
			b = fmt.Appendf(b, `,"left_out":%d`, len(ops)-len(shown))
			b = c.list(b, "operations", shown)
		}
	}
	return append(b, '}')
}

func places(items []item) []int32 {
	out := make([]int32, len(items))
	for i, it := range items {
		out[i] = it.op
	}
	return out
}

// around is a stretch of at most shownOps of a key's operations that holds the culprit.
func around(ops []int32, culprit int32) []int32 {
	if len(ops) <= shownOps {
		return ops
	}
	at, _ := slices.BinarySearch(ops, culprit)
	from := min(max(0, at-shownOps*3/4), len(ops)-shownOps)
	return ops[from : from+shownOps]
}

func (c *checker) list(b []byte, name string, ops []int32) []byte {
	b = fmt.Appendf(b, `,%q:[`, name)
	for i, at := range ops {
		if i > 0 {
			b = append(b, ',')
		}
		b = c.operation(b, &c.h.ops[at])
	}
	return append(b, ']')
}

// operation appends one operation as the results show it.
func (c *checker) operation(b []byte, o *op) []byte {
	text := c.h.texts
	b = strconv.AppendInt(append(b, `{"invoke":`...), o.invoke, 10)
	b = append(b, `,"complete":`...)
	if o.ret == never {
		b = append(b, "null"...)
	} else {
		b = strconv.AppendInt(b, o.complete, 10)
	}
	b = append(append(b, `,"process":`...), text[o.process]...)
	b = append(append(b, `,"f":"`...), c.m.nameOf(o.f)...)
	b = append(b, `","value":`...)
	switch o.f {
	case fCas:
		b = append(append(append(append(append(b, '['), text[o.value]...), ','), text[o.next]...), ']')
	default:
		b = append(b, text[o.value]...)
	}
	b = append(append(b, `,"result":`...), text[o.result]...)
	b = append(append(b, `,"node":`...), text[o.node]...)
	b = append(append(b, `,"type":"`...), typeName(o)...)
	b = strconv.AppendInt(append(b, `","start_ns":`...), o.start, 10)
	b = append(b, `,"end_ns":`...)
	if o.ret == never {
		b = append(b, "null"...)
	} else {
		b = strconv.AppendInt(b, o.end, 10)
	}
	if o.err != idNull {
		b = append(append(b, `,"error":`...), text[o.err]...)
	}
	return append(b, '}')
}

// typeName is how an operation ended; one that never did is as good as info.
func typeName(o *op) string {
	if o.typ == typInvoke {
		return typeNames[typInfo]
	}
	return typeNames[o.typ]
}
