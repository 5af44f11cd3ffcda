"""NetworkPolicy enforcement for the local cluster: one nftables table, rendered whole from what the API server says.

Test equipment: users' clusters bring Calico, Cilium or kube-router.
"""
