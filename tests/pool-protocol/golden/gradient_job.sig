š×…P@“A¬xjGÁ­ÑtSpe¾nVcz›ÙL¸+¼¦„
zoLá	IxÔŽ×ãá‚³ÿ?s‚