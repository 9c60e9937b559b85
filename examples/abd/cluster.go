package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	patience = 800 * time.Millisecond // for a majority
	largest  = 1 << 20                // bytes of a value
)

var errNoMajority = errors.New("no majority answered")

// Cluster is this node's view of all of them.
type Cluster struct {
	node   string
	peers  []string // the other nodes' addresses
	total  int
	store  *Store
	http   *http.Client
	sloppy bool
}

func (c *Cluster) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/kv/", c.serveRegister)     // for clients: the register as the cluster has it
	mux.HandleFunc("/replica/", c.serveReplica) // for the other nodes: as this node has it
	mux.HandleFunc("/status", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"node": c.node, "registers": c.store.size()})
	})
	return mux
}

// serveRegister answers GET /kv/KEY and PUT /kv/KEY with {"value": ...}.
func (c *Cluster) serveRegister(w http.ResponseWriter, r *http.Request) {
	key := r.URL.Path[len("/kv/"):]
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	var record Record
	var err error
	switch r.Method {
	case http.MethodGet:
		record, err = c.read(ctx, key)
	case http.MethodPut:
		var given struct {
			Value json.RawMessage `json:"value"`
		}
		if json.NewDecoder(io.LimitReader(r.Body, largest)).Decode(&given) != nil || given.Value == nil {
			http.Error(w, "expected {\"value\": ...}", http.StatusBadRequest)
			return
		}
		record, err = c.write(ctx, key, given.Value)
	default:
		http.Error(w, "expected GET or PUT", http.StatusMethodNotAllowed)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	answer(w, map[string]any{"value": record.Value, "stamp": record.Stamp.Count})
}

// serveReplica answers GET /replica/KEY with this node's record, and PUT /replica/KEY by keeping a newer one.
func (c *Cluster) serveReplica(w http.ResponseWriter, r *http.Request) {
	key := r.URL.Path[len("/replica/"):]
	record, err := Record{Key: key}, error(nil)
	if r.Method == http.MethodPut {
		if err = json.NewDecoder(io.LimitReader(r.Body, 2*largest)).Decode(&record); err == nil && record.Key == key {
			err = c.store.put(record)
		}
	} else {
		record, err = c.store.get(key)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, record)
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(body)
}

// read finds the newest record of a majority and sees that a majority has it, so that no later read can miss it.
func (c *Cluster) read(ctx context.Context, key string) (Record, error) {
	newest, err := c.newest(ctx, key)
	if err != nil || newest.Stamp.Count == 0 {
		return newest, err
	}
	return newest, c.spread(ctx, newest)
}

// write stores a value under a stamp that is higher than all that a majority knows.
func (c *Cluster) write(ctx context.Context, key string, value json.RawMessage) (Record, error) {
	newest, err := c.newest(ctx, key)
	if err != nil {
		return newest, err
	}
	nonce := make([]byte, 8)
	if _, err := rand.Read(nonce); err != nil {
		return newest, err
	}
	mine := Record{Key: key, Stamp: Stamp{newest.Stamp.Count + 1, hex.EncodeToString(nonce)}, Value: value}
	if c.sloppy {
		go func() {
			late, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			c.spread(late, mine)
		}()
		return mine, c.store.put(mine)
	}
	return mine, c.spread(ctx, mine)
}

// newest asks all nodes for a record and returns the one with the highest stamp of the majority that is first.
func (c *Cluster) newest(ctx context.Context, key string) (Record, error) {
	if c.sloppy {
		return c.store.get(key)
	}
	newest := Record{Key: key, Value: json.RawMessage("null")}
	records, err := c.majority(ctx, func() (Record, error) { return c.store.get(key) }, http.MethodGet, key, nil)
	for _, record := range records {
		if newest.Stamp.before(record.Stamp) {
			newest = record
		}
	}
	return newest, err
}

// spread returns when a majority has the record, or a newer one, on disk.
func (c *Cluster) spread(ctx context.Context, record Record) error {
	body, err := json.Marshal(record)
	if err != nil {
		return err
	}
	own := func() (Record, error) { return record, c.store.put(record) }
	_, err = c.majority(ctx, own, http.MethodPut, record.Key, body)
	return err
}

// majority asks this node (by own) and the others the same, and returns the first answers that are a majority.
func (c *Cluster) majority(
	ctx context.Context, own func() (Record, error), method, key string, body []byte,
) ([]Record, error) {
	type reply struct {
		record Record
		err    error
	}
	replies := make(chan reply, c.total)
	go func() {
		record, err := own()
		replies <- reply{record, err}
	}()
	for _, peer := range c.peers {
		go func(peer string) {
			record, err := c.ask(ctx, method, peer+"/replica/"+url.PathEscape(key), body)
			replies <- reply{record, err}
		}(peer)
	}
	var got []Record
	for i := 0; i < c.total; i++ {
		select {
		case r := <-replies:
			if r.err != nil {
				continue
			}
			if got = append(got, r.record); len(got) > c.total/2 {
				return got, nil
			}
		case <-ctx.Done():
			return got, errNoMajority
		}
	}
	return got, errNoMajority
}

// ask puts one question to another node. It goes on when the client has its answer, so that slow nodes catch up.
func (c *Cluster) ask(ctx context.Context, method, address string, body []byte) (Record, error) {
	var record Record
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return record, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return record, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return record, errors.New(response.Status)
	}
	return record, json.NewDecoder(response.Body).Decode(&record)
}
