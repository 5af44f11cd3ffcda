package main

import (
	"context"
	"fmt"
	"net/url"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
)

const (
	etcdQuotaBytes  = 4 << 30
	etcdReadyWithin = time.Minute
)

// etcdCommand serves one etcd member over plain HTTP. It is meant for loopback addresses only.
func etcdCommand() *cobra.Command {
	var dataDir, clientURL, peerURL string
	var noFsync bool
	command := &cobra.Command{
		Use:          "etcd",
		Short:        "Run a single etcd member on loopback",
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := etcdConfig(dataDir, clientURL, peerURL)
			if err != nil {
				return err
			}
			config.UnsafeNoFsync = noFsync
			ctx, stop := signal.NotifyContext(command.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return serveEtcd(ctx, config)
		},
	}
	command.SetContext(context.Background())
	command.Flags().StringVar(&dataDir, "data-dir", "", "directory of the database")
	command.Flags().StringVar(&clientURL, "client-url", "http://127.0.0.1:2379", "URL served to clients")
	command.Flags().StringVar(&peerURL, "peer-url", "http://127.0.0.1:2380", "URL served to peers (there are none)")
	command.Flags().BoolVar(&noFsync, "no-fsync", false, "do not wait for the disk; state may be lost with the machine")
	if err := command.MarkFlagRequired("data-dir"); err != nil {
		panic(err)
	}
	return command
}

func etcdConfig(dataDir, clientURL, peerURL string) (*embed.Config, error) {
	client, err := url.Parse(clientURL)
	if err != nil {
		return nil, fmt.Errorf("--client-url: %w", err)
	}
	peer, err := url.Parse(peerURL)
	if err != nil {
		return nil, fmt.Errorf("--peer-url: %w", err)
	}
	config := embed.NewConfig()
	config.Dir = dataDir
	config.LogLevel = "warn"
	config.LogOutputs = []string{"stderr"}
	config.QuotaBackendBytes = etcdQuotaBytes
	config.AutoCompactionMode = "periodic"
	config.AutoCompactionRetention = "5m"
	config.ListenClientUrls = []url.URL{*client}
	config.AdvertiseClientUrls = config.ListenClientUrls
	config.ListenPeerUrls = []url.URL{*peer}
	config.AdvertisePeerUrls = config.ListenPeerUrls
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	return config, nil
}

func serveEtcd(ctx context.Context, config *embed.Config) error {
	server, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	defer server.Close()
	select {
	case <-server.Server.ReadyNotify():
	case <-time.After(etcdReadyWithin):
		return fmt.Errorf("etcd was not ready within %s", etcdReadyWithin)
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-server.Err():
		return err
	}
}
