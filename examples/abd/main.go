// abd is a small replicated register service: every node holds every register, and any majority answers.
//
// The algorithm is that of Attiya, Bar-Noy and Dolev ("Sharing memory robustly in message-passing systems",
// 1995) for several writers: a write asks a majority for its highest stamp and stores a higher one at a majority;
// a read takes the highest of a majority and stores it at a majority before it answers. There is no leader and no
// consensus, hence no compare-and-set. What a replica acknowledges is on its disk.
//
//	abd serve -node n1 -listen 10.0.0.1:8080 -peers n1=10.0.0.1:8080,n2=... -data DIR [-sloppy]
//	abd client
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	log.SetFlags(log.Lmicroseconds)
	if len(os.Args) > 1 && os.Args[1] == "client" {
		client(os.Stdin, os.Stdout)
		return
	}
	if len(os.Args) < 2 || os.Args[1] != "serve" {
		fmt.Fprintln(os.Stderr, "expected abd serve or abd client")
		os.Exit(2)
	}
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	node := flags.String("node", "", "the name of this node")
	listen := flags.String("listen", "", "HOST:PORT to serve on")
	peers := flags.String("peers", "", "NAME=HOST:PORT of every node, this one included, joined by commas")
	data := flags.String("data", ".", "where the log is kept")
	sloppy := flags.Bool("sloppy", false, "known bad: acknowledge a write once this node alone has it")
	flags.Parse(os.Args[2:])

	store, err := openStore(*data)
	if err != nil {
		log.Fatalf("cannot open the log: %v", err)
	}
	cluster := &Cluster{node: *node, store: store, sloppy: *sloppy, http: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, MaxConnsPerHost: 256, DisableCompression: true},
	}}
	for _, word := range strings.Split(*peers, ",") {
		name, address, found := strings.Cut(word, "=")
		if !found {
			log.Fatalf("peer %q: expected NAME=HOST:PORT", word)
		}
		cluster.total++
		if name != *node {
			cluster.peers = append(cluster.peers, "http://"+address)
		}
	}
	log.Printf("serving as %s of %d with %d registers", *node, cluster.total, store.size())
	server := &http.Server{Addr: *listen, Handler: cluster.routes(), ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}
